"""Candidates: several sources, each a ranked list, fused by weighted reciprocal ranks into one
prior."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.catalog import (
    EVERYTHING,
    Catalog,
    Scope,
    UserFactors,
    Vectors,
    asked_terms,
    terms_of,
    words_of,
)
from service.errors import ModelError
from service.schema import Candidate, Item, UserState
from service.store import Store

RRF = 60
"""The constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""
AT_ONCE = 32
"""So many documents are embedded between two looks at the clock."""


@dataclass(frozen=True)
class RetrievalQuery:
    """What to look for. `k`: how many candidates, `depth` of them from each source; `given`: rank
    these ids instead of looking; weights by source name; `taste`: among the items' factors;
    `avoid`: values of attributes that nothing found may have; `popularity`, `vectors`: shall
    candidates carry them? `meant`: the instruction as the embedder may see it; `embeds`: may it see
    anything for this person?"""

    k: int
    weights: Mapping[str, float]
    scope: Scope = EVERYTHING
    given: Sequence[str] | None = None
    instruction: str | None = None
    meant: str | None = None
    embeds: bool = True
    context_items: Sequence[str] = ()
    taste: UserFactors | None = None
    avoid: frozenset[str] = frozenset()
    popularity: bool = False
    vectors: bool = False

    @property
    def depth(self) -> int:
        """Sources go deeper than what is kept: an item that several of them name far down may beat
        one's favourite."""
        return 4 * self.k


class CandidateSource(Protocol):
    """Ids of admissible items, best first, at most `wanted.depth`."""

    def __call__(self, state: UserState, wanted: RetrievalQuery) -> Awaitable[Sequence[str]]: ...


async def retrieve(
    store: Store, catalog: Catalog, state: UserState, wanted: RetrievalQuery
) -> list[Candidate]:
    """Candidates by falling prior; ties by id, so that the order of a given list never matters.

    With `given`, every one of its ids comes back exactly once; the catalogue's unknown ones last
    and without a title.
    """
    if not wanted.k:
        return []

    async def similar(state: UserState, wanted: RetrievalQuery) -> Sequence[str]:
        return await nearest(wanted, [(taste.vector, taste.weight) for taste in state.interests])

    async def context(state: UserState, wanted: RetrievalQuery) -> Sequence[str]:
        vectors = await catalog.vectors(wanted.context_items)
        return await nearest(wanted, [(vector, 1.0) for vector in vectors.values()])

    async def query(state: UserState, wanted: RetrievalQuery) -> Sequence[str]:
        if not wanted.instruction:
            return []
        return await catalog.search.by_text(
            wanted.instruction, wanted.depth, wanted.scope, meant=wanted.meant
        )

    async def collaborative(state: UserState, wanted: RetrievalQuery) -> Sequence[str]:
        return (
            await catalog.search.favoured(wanted.taste, wanted.depth, wanted.scope)
            if wanted.taste is not None
            else []
        )

    async def popular(state: UserState, wanted: RetrievalQuery) -> Sequence[str]:
        if wanted.given is not None:
            return await catalog.search.admitted(
                await store.popularity.among(list(wanted.given)), wanted.scope
            )
        found: list[str] = []
        page, offset = wanted.depth + len(wanted.scope.exclude), 0
        while len(found) < wanted.depth and (ids := await store.popularity.top(page, offset)):
            found += await catalog.search.admitted(ids, wanted.scope)
            offset += page
        return found[: wanted.depth]

    async def nearest(
        wanted: RetrievalQuery, tastes: Sequence[tuple[Sequence[float] | Vectors, float]]
    ) -> Sequence[str]:
        lists = await catalog.search.similar(
            [vector for vector, _ in tastes], wanted.depth, wanted.scope
        )
        return fused_ids(
            [(weight, found) for found, (_, weight) in zip(lists, tastes, strict=True)]
        )[: wanted.depth]

    sources: dict[str, CandidateSource] = {
        "similar": similar,
        "collaborative": collaborative,
        "context": context,
        "query": query,
        "popular": popular,
    }
    used = {name: weight for name, weight in wanted.weights.items() if weight > 0}
    lists = await asyncio.gather(*(sources[name](state, wanted) for name in used))
    fused = fuse({name: (used[name], found) for name, found in zip(used, lists, strict=True)})
    ids = (await _welcome(catalog, list(fused), wanted))[: wanted.k]
    if wanted.given is not None:
        ids += sorted(set(wanted.given) - set(ids))
    elif len(ids) < wanted.k:
        more = [
            item_id
            for item_id in await catalog.search.some(wanted.depth, wanted.scope)
            if item_id not in fused
        ]
        ids += await _welcome(catalog, more, wanted)
    items = await catalog.get(ids[: max(wanted.k, len(wanted.given or ()))])
    found = [_candidate(items[item_id], fused.get(item_id, {}), used) for item_id in items]
    unknown = sorted(set(wanted.given or ()) - set(items))
    found += [blank(Item.model_construct(id=item_id)) for item_id in unknown]
    return await _weighed(store, catalog, found, wanted)


async def _welcome(catalog: Catalog, ids: Sequence[str], wanted: RetrievalQuery) -> list[str]:
    """Without what has an avoided value; a given list stays whole."""
    if not wanted.avoid or wanted.given is not None:
        return list(ids)
    words = {word.casefold() for word in wanted.avoid}
    items = await catalog.get(ids)
    return [
        one
        for one in ids
        if one not in items
        or not words & {str(value).casefold() for _, value in items[one].facts()}
    ]


async def documents(
    store: Store,
    catalog: Catalog,
    state: UserState,
    given: Sequence[Item],
    wanted: RetrievalQuery,
    until: float,
) -> tuple[list[Candidate], int]:
    """Texts that may be in no catalogue, by falling prior, each exactly once; and of how many only
    the words count, as they could not be embedded by `until`, a time of the event loop.

    Those whose id the catalogue knows are also judged by who liked them. Where nobody did,
    `similar` takes the place of `collaborative`. Ties by what they say, so that the order in which
    they came never matters.
    """
    items = {item.id: item for item in sorted(given, key=lambda item: (words_of(item), item.id))}
    said = {item_id: words_of(item) for item_id, item in items.items()}
    known = list(await catalog.get(items))
    lexical = (
        await asyncio.to_thread(_by_words, wanted.instruction, said) if wanted.instruction else []
    )
    tastes = [(np.asarray(taste.vector), taste.weight) for taste in state.interests]
    vectors, query = await catalog.vectors(known), None
    with suppress(ModelError):  # the embedder's: then words and people alone count
        query = await catalog.embedder.embed_one(wanted.meant) if wanted.meant else None
        if wanted.embeds and (tastes or query is not None):
            texts = {
                item_id: said[item_id] for item_id in [*lexical, *items] if item_id not in vectors
            }
            vectors |= await _embedded(catalog, texts, until)
    meant = [_nearest(query, vectors, items)] if query is not None else []
    only = Scope(only=frozenset(known))
    lists: dict[str, Sequence[str]] = {
        "query": fused_ids([(1.0, found) for found in (lexical, *meant)]),
        "similar": fused_ids(
            [(weight, _nearest(vector, vectors, items)) for vector, weight in tastes]
        ),
        "collaborative": await catalog.search.favoured(wanted.taste, len(known), only)
        if wanted.taste and known
        else [],
        "popular": await store.popularity.among(known),
    }
    weights = {name: wanted.weights[name] for name in lists}
    if not lists["collaborative"]:
        weights["similar"] = max(weights["similar"], weights["collaborative"])
    fused = fuse(
        {name: (weights[name], found) for name, found in lists.items() if weights[name] > 0}
    )
    order = [*fused, *(item_id for item_id in items if item_id not in fused)]
    found = [_candidate(items[item_id], fused.get(item_id, {}), weights) for item_id in order]
    unread = len(items) - len(vectors) if wanted.embeds and (tastes or wanted.instruction) else 0
    return await _weighed(store, catalog, found, wanted), unread


async def _embedded(catalog: Catalog, texts: Mapping[str, str], until: float) -> dict[str, Vectors]:
    """Vectors of as many of the texts as there is time for, the first first."""
    found: dict[str, Vectors] = {}
    waiting = list(texts)
    while waiting and asyncio.get_running_loop().time() < until:
        now, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        found |= dict(
            zip(now, await catalog.embedder.embed([texts[item_id] for item_id in now]), strict=True)
        )
    return found


def load_bm25() -> None:
    """Import what the first documents would wait for: half a second where numba is installed
    too."""
    import bm25s  # noqa: F401  this is all that it shall do


def _by_words(query: str, said: Mapping[str, str]) -> list[str]:
    """Ids of the texts that hold words of the query, by BM25."""
    import bm25s

    texts, words = [terms_of(text) for text in said.values()], asked_terms(query)
    if not any(texts) or not words:
        return []
    index = bm25s.BM25()
    index.index(texts, show_progress=False)
    scores = index.get_scores(words)
    return [
        item_id
        for score, item_id in sorted(zip(scores, said, strict=True), key=lambda pair: -pair[0])
        if score > 0
    ]


def _nearest(
    vector: Vectors, vectors: Mapping[str, Vectors], order: Mapping[str, object]
) -> list[str]:
    """Ids of the vectors, nearest by cosine first; ties in the given order."""
    ids = [item_id for item_id in order if item_id in vectors]
    if not ids:
        return []
    cosines = np.stack([vectors[item_id] for item_id in ids]) @ vector
    return [ids[place] for place in np.argsort(-cosines, kind="stable")]


async def _weighed(
    store: Store, catalog: Catalog, found: list[Candidate], wanted: RetrievalQuery
) -> list[Candidate]:
    """With popularity and vectors where they are wanted. An item nobody liked is as popular as the
    least popular one."""
    ids = [candidate.item.id for candidate in found]
    if wanted.popularity:
        votes = await store.popularity.votes(ids)
        least = min(votes.values(), default=0.0)
        found = [
            one.model_copy(update={"popularity": votes.get(one.item.id, least)}) for one in found
        ]
    if wanted.vectors:
        vectors = {
            item_id: tuple(vector.tolist())
            for item_id, vector in (await catalog.vectors(ids)).items()
        }
        found = [one.model_copy(update={"vector": vectors.get(one.item.id)}) for one in found]
    return found


def fuse(lists: Mapping[str, tuple[float, Sequence[str]]]) -> dict[str, dict[str, int]]:
    """Ids by falling Σ weight / (60 + rank) over the lists that name them, ties by id; for each its
    rank in every list."""
    ranks: dict[str, dict[str, int]] = {}
    priors: dict[str, float] = {}
    for name, (weight, found) in lists.items():
        for rank, item_id in enumerate(found, 1):
            ranks.setdefault(item_id, {})[name] = rank
            priors[item_id] = priors.get(item_id, 0.0) + weight / (RRF + rank)
    return {
        item_id: ranks[item_id]
        for item_id in sorted(ranks, key=lambda item_id: (-priors[item_id], item_id))
    }


def fused_ids(lists: Sequence[tuple[float, Sequence[str]]]) -> list[str]:
    """Ids of several weighted lists as one."""
    return list(fuse({str(n): weighted for n, weighted in enumerate(lists)}))


def prior_of(ranks: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Σ weight / (60 + rank) over the sources that name an item."""
    return sum(weights[name] / (RRF + rank) for name, rank in ranks.items())


def blank(item: Item) -> Candidate:
    """A candidate of which nothing is known."""
    return Candidate.model_construct(item=item, prior=0.0, blank=True)


def _candidate(item: Item, ranks: dict[str, int], weights: Mapping[str, float]) -> Candidate:
    return Candidate.model_construct(item=item, prior=prior_of(ranks, weights), sources=ranks)
