"""Gives a caller's documents a prior: by their words, their meaning, and the likes of known
items."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from service.catalog import Catalog, Scope, Vectors, asked_terms, terms_of, words_of
from service.errors import ModelError
from service.retrieve.fusion import candidate_of, fuse, fused_ids
from service.retrieve.lookup import Lookup
from service.schema import Candidate, Item

AT_ONCE = 32
"""How many documents are embedded before the deadline is checked again."""


async def documents(
    lookup: Lookup, given: Sequence[Item], until: float
) -> tuple[list[Candidate], int]:
    """Returns each document exactly once as a candidate, highest prior first, and how many could
    not be embedded by `until` (time of the event loop); those are judged by their words alone.

    Likes count only for documents whose id the catalogue knows. If `collaborative` ranks none,
    `similar` gets its weight. Ties are broken by content, so that the order of `given` doesn't
    matter.
    """
    query, catalog = lookup.query, lookup.catalog
    items = {item.id: item for item in sorted(given, key=lambda item: (words_of(item), item.id))}
    texts = {item_id: words_of(item) for item_id, item in items.items()}
    known = list(await catalog.get(items))
    lexical: list[str] = []
    if query.instruction:
        lexical = await asyncio.to_thread(_by_words, query.instruction, texts)
    first_words = {item_id: texts[item_id] for item_id in [*lexical, *items]}
    vectors, wish = await _vectors(lookup, first_words, known, until)
    favoured: list[str] = []
    if query.factors is not None and known:
        favoured = await catalog.search.favoured(
            query.factors, len(known), Scope(only=frozenset(known))
        )
    interests = [
        (interest.weight, _nearest(np.asarray(interest.vector), vectors, items))
        for interest in lookup.state.interests
    ]
    lists = {
        "query": fused_ids([(1.0, lexical), (1.0, _nearest(wish, vectors, items))]),
        "similar": fused_ids(interests),
        "collaborative": favoured,
        "popular": await lookup.store.popularity.among(known),
    }
    weights = {name: query.weights[name] for name in lists}
    if not favoured:
        weights["similar"] = max(weights["similar"], weights["collaborative"])
    ranks = fuse({name: (weights[name], ids) for name, ids in lists.items() if weights[name] > 0})
    candidates = [
        candidate_of(items[item_id], ranks.get(item_id, {}), weights)
        for item_id in dict.fromkeys([*ranks, *items])
    ]
    judged = query.embeds and (interests or query.instruction)
    return await lookup.weighed(candidates), len(items) - len(vectors) if judged else 0


async def _vectors(
    lookup: Lookup, texts: Mapping[str, str], known: Sequence[str], until: float
) -> tuple[dict[str, Vectors], Vectors | None]:
    """Returns vectors of as many texts as can be embedded by `until`, and the vector of the
    instruction. If the embedder fails, only vectors of known items are returned."""
    query, catalog = lookup.query, lookup.catalog
    vectors, wish = await catalog.vectors(known), None
    with suppress(ModelError):
        wish = await catalog.embedder.embed_one(query.meant) if query.meant else None
        if query.embeds and (lookup.state.interests or wish is not None):
            missing = {item_id: text for item_id, text in texts.items() if item_id not in vectors}
            vectors |= await _embedded(catalog, missing, until)
    return vectors, wish


async def _embedded(catalog: Catalog, texts: Mapping[str, str], until: float) -> dict[str, Vectors]:
    """Embeds texts, in order, until the time `until`."""
    vectors: dict[str, Vectors] = {}
    waiting = list(texts)
    while waiting and asyncio.get_running_loop().time() < until:
        batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        embedded = await catalog.embedder.embed([texts[item_id] for item_id in batch])
        vectors |= dict(zip(batch, embedded, strict=True))
    return vectors


def load_bm25() -> None:
    """Imports the BM25 library in advance. The first rerank would otherwise wait for it, half a
    second if numba is installed."""
    import bm25s  # noqa: F401  this is all that it shall do


def _by_words(query: str, texts: Mapping[str, str]) -> list[str]:
    """Ids of the texts that contain words of the query, best BM25 score first."""
    words = asked_terms(query)
    terms = [terms_of(text) for text in texts.values()] if words else []
    if not any(terms):
        return []
    import bm25s

    index = bm25s.BM25()
    index.index(terms, show_progress=False)
    scores = index.get_scores(words)
    return [
        item_id
        for score, item_id in sorted(zip(scores, texts, strict=True), key=lambda pair: -pair[0])
        if score > 0
    ]


def _nearest(
    vector: Vectors | None, vectors: Mapping[str, Vectors], order: Mapping[str, object]
) -> list[str]:
    """Ids by the cosine of their vector with `vector`, highest first; ties in the order of
    `order`. Empty without a vector."""
    ids = [item_id for item_id in order if item_id in vectors]
    if vector is None or not ids:
        return []
    cosines = np.stack([vectors[item_id] for item_id in ids]) @ vector
    return [ids[place] for place in np.argsort(-cosines, kind="stable")]
