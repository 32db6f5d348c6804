"""Gives a caller's documents a prior: by their words, their meaning, and the likes of known
items."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from service.catalog import Catalog, Scope, Vectors, asked_terms, terms_of, words_of
from service.errors import ModelError
from service.retrieve.collaborative import collaborative
from service.retrieve.fusion import Fusion, Scores, best_of, by_place, summed, unit
from service.retrieve.item_item import item_item
from service.retrieve.lexical import latest_terms
from service.retrieve.lookup import Lookup
from service.retrieve.relevance import calibrated, logits, relevances
from service.retrieve.sequence import sequence
from service.retrieve.wish import last_refused
from service.schema import Candidate, Item

UNSAID = 0.5
"""The relevance of a document to a query that only says what it does not want."""
AT_ONCE = 32
"""How many documents are embedded before the deadline is checked again."""


async def documents(
    lookup: Lookup, given: Sequence[Item], until: float
) -> tuple[list[Candidate], int]:
    """Returns each document exactly once as a candidate, highest prior first, and how many could
    not be embedded by `until` (time of the event loop); those are judged by their words alone.

    Likes count only for documents whose id the catalogue knows. If `collaborative` finds no
    document, `similar` gets the greater of the two sources' weights. Ties are broken by content, so
    that the order of `given` doesn't matter.
    """
    query, catalog, depth = lookup.query, lookup.catalog, lookup.query.depth
    items = {item.id: item for item in sorted(given, key=lambda item: (words_of(item), item.id))}
    texts = {item_id: words_of(item) for item_id, item in items.items()}
    known = list(await catalog.get(items))
    asked = [(asked_terms(query.wish.text), 1.0)] if query.wish.text else []
    liked = await latest_terms(lookup)
    lexical, like_lexical = await asyncio.to_thread(_by_terms, texts, asked, liked)
    first_words = {item_id: texts[item_id] for item_id in [*lexical, *items]}
    vectors, wish = await _vectors(lookup, first_words, known, until)
    interests = [
        (interest.weight, unit(_nearest(np.asarray(interest.vector), vectors, items), depth))
        for interest in lookup.state.interests
    ]
    relevant = _relevances(lookup, texts, vectors, wish)
    lacking = not calibrated(catalog.embedder.name)
    by_both = (by_place(scores) for scores in (lexical, _nearest(wish, vectors, items)))
    by_wish = summed((1.0, scores) for scores in by_both) if lacking else logits(relevant)
    lists = {
        "query": by_wish,
        "similar": summed(interests),
        "closest": await _closest(lookup, vectors, items),
        "lexical": like_lexical,
        **await _learned(lookup, known),
    }
    weights = _weights(lookup, lists)
    found = {name: unit(scores, depth) for name, scores in lists.items() if weights[name] > 0}
    fusion = Fusion(found, weights)
    candidates = [
        fusion.candidate(items[name]).model_copy(update={"relevance": relevant.get(name)})
        for name in {**fusion.priors, **items}
    ]
    judged = query.embeds and (interests or query.wish.text)
    candidates = last_refused(candidates, query.wish)
    return await lookup.weighed(candidates), len(items) - len(vectors) if judged else 0


async def _learned(lookup: Lookup, known: list[str]) -> dict[str, Scores]:
    """What the sources that learned from people say of documents that the catalogue knows."""
    within = replace(lookup, query=replace(lookup.query, scope=Scope(only=frozenset(known))))
    return {
        "collaborative": await collaborative(within),
        "item_item": await item_item(within),
        "sequence": await sequence(within),
        "popular": by_place(await lookup.store.popularity.among(known)),
    }


def _weights(lookup: Lookup, lists: Mapping[str, Scores]) -> dict[str, float]:
    """The weights of the sources for documents. Popularity counts only for a person."""
    weights = {name: lookup.query.weights[name] for name in lists}
    if not lookup.state.recent:
        weights["popular"] = 0.0
    if not lists["collaborative"]:
        weights["similar"] = max(weights["similar"], weights["collaborative"])
    return weights


def _relevances(
    lookup: Lookup,
    texts: Mapping[str, str],
    vectors: Mapping[str, Vectors],
    meant: Vectors | None,
) -> dict[str, float]:
    """How relevant each text is to the words of the wish; none if it has none."""
    wish = lookup.query.wish
    if wish.text:
        embedder = lookup.catalog.embedder.name
        return relevances(wish.content or wish.text, texts, vectors, meant, embedder)
    return dict.fromkeys(texts, UNSAID) if wish.words else {}


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
    """Embeds `texts` in order, `AT_ONCE` at a time, and starts no batch after `until` (time of the
    event loop). Returns the vectors by item id."""
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


def _by_terms(
    texts: Mapping[str, str], *queries: Sequence[tuple[Sequence[str], float]]
) -> list[Scores]:
    """Returns for each query the scores of `texts` that are above 0, highest first, by item id. A
    query is a sequence of (terms, weight); a score is Σ weight · BM25."""
    terms = [terms_of(text) for text in texts.values()] if any(queries) else []
    if not any(terms):
        return [{} for _ in queries]
    import bm25s

    index = bm25s.BM25()
    index.index(terms, show_progress=False)
    return [
        summed(
            (weight, _above_zero(texts, index.get_scores(list(words))))
            for words, weight in query
            if words
        )
        for query in queries
    ]


def _above_zero(ids: Iterable[str], scores: Sequence[float]) -> Scores:
    pairs = zip(ids, scores, strict=True)
    return {item_id: float(score) for item_id, score in pairs if score > 0}


async def _closest(
    lookup: Lookup, vectors: Mapping[str, Vectors], order: Mapping[str, object]
) -> Scores:
    """Returns each document's greatest cosine with any of the latest liked items. `vectors`: of the
    documents, by id; `order`: ids in the order that breaks ties."""
    latest = await lookup.catalog.vectors(item_id for item_id, _ in lookup.latest)
    return best_of(_nearest(vector, vectors, order) for vector in latest.values())


def _nearest(
    vector: Vectors | None, vectors: Mapping[str, Vectors], order: Mapping[str, object]
) -> Scores:
    """Returns the cosine of each of `vectors` with `vector`, by item id, highest first; ties in the
    order of `order`. Empty if `vector` is None."""
    ids = [item_id for item_id in order if item_id in vectors]
    if vector is None or not ids:
        return {}
    cosines = np.stack([vectors[item_id] for item_id in ids]) @ vector
    return {ids[place]: float(cosines[place]) for place in np.argsort(-cosines, kind="stable")}
