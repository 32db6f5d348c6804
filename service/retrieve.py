"""Candidates: several sources, each a ranked list, fused by weighted reciprocal ranks into one prior."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.catalog import EVERYTHING, Catalog, Scope, Taste, Vectors
from service.schema import Candidate, Item, UserState
from service.store import Store

RRF = 60
"""The constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""


@dataclass(frozen=True)
class Wanted:
    """What to look for. `k`: how many candidates, `depth` of them from each source; `given`: rank these ids instead of
    looking; weights by source name; `taste`: among the items' factors; `popularity`, `vectors`: shall candidates carry them?"""

    k: int
    weights: Mapping[str, float]
    scope: Scope = EVERYTHING
    given: Sequence[str] | None = None
    instruction: str | None = None
    context_items: Sequence[str] = ()
    taste: Taste | None = None
    popularity: bool = False
    vectors: bool = False

    @property
    def depth(self) -> int:
        """Sources go deeper than what is kept: an item that several of them name far down may beat one's favourite."""
        return 4 * self.k


class Source(Protocol):
    """Ids of admissible items, best first, at most `wanted.depth`."""

    def __call__(self, state: UserState, wanted: Wanted) -> Awaitable[Sequence[str]]: ...


async def retrieve(store: Store, catalog: Catalog, state: UserState, wanted: Wanted) -> list[Candidate]:
    """Candidates by falling prior; ties by id, so that the order of a given list never matters.

    With `given`, every one of its ids comes back exactly once; the catalogue's unknown ones last and without a title.
    """

    async def similar(state: UserState, wanted: Wanted) -> Sequence[str]:
        return await nearest(wanted, [(taste.vector, taste.weight) for taste in state.interests])

    async def context(state: UserState, wanted: Wanted) -> Sequence[str]:
        vectors = await catalog.vectors(wanted.context_items)
        return await nearest(wanted, [(vector, 1.0) for vector in vectors.values()])

    async def query(state: UserState, wanted: Wanted) -> Sequence[str]:
        return await catalog.search(wanted.instruction, wanted.depth, wanted.scope) if wanted.instruction else []

    async def collaborative(state: UserState, wanted: Wanted) -> Sequence[str]:
        return await catalog.favoured(wanted.taste, wanted.depth, wanted.scope) if wanted.taste is not None else []

    async def popular(state: UserState, wanted: Wanted) -> Sequence[str]:
        if wanted.given is not None:
            return await catalog.admitted(await store.popularity.among(list(wanted.given)), wanted.scope)
        found: list[str] = []
        page, offset = wanted.depth + len(wanted.scope.exclude), 0
        while len(found) < wanted.depth and (ids := await store.popularity.top(page, offset)):
            found += await catalog.admitted(ids, wanted.scope)
            offset += page
        return found[: wanted.depth]

    async def nearest(wanted: Wanted, tastes: Sequence[tuple[Sequence[float] | Vectors, float]]) -> Sequence[str]:
        lists = await catalog.similar([vector for vector, _ in tastes], wanted.depth, wanted.scope)
        weighted = {str(n): (weight, found) for n, (found, (_, weight)) in enumerate(zip(lists, tastes, strict=True))}
        return list(fuse(weighted))[: wanted.depth]

    sources: dict[str, Source] = {
        "similar": similar,
        "collaborative": collaborative,
        "context": context,
        "query": query,
        "popular": popular,
    }
    used = {name: weight for name, weight in wanted.weights.items() if weight > 0}
    lists = await asyncio.gather(*(sources[name](state, wanted) for name in used))
    fused = fuse({name: (used[name], found) for name, found in zip(used, lists, strict=True)})
    ids = list(fused)[: wanted.k]
    if wanted.given is not None:
        ids += sorted(set(wanted.given) - set(ids))
    elif len(ids) < wanted.k:
        ids += [item_id for item_id in await catalog.some(wanted.k, wanted.scope) if item_id not in fused]
    items = await catalog.get(ids[: max(wanted.k, len(wanted.given or ()))])
    found = [_candidate(items[item_id], fused.get(item_id, {}), used) for item_id in items]
    unknown = sorted(set(wanted.given or ()) - set(items))
    found += [_candidate(Item.model_construct(id=item_id), {}, used) for item_id in unknown]
    return await _weighed(store, catalog, found, wanted)


async def _weighed(store: Store, catalog: Catalog, found: list[Candidate], wanted: Wanted) -> list[Candidate]:
    """With popularity and vectors where they are wanted. An item nobody liked is as popular as the least popular one."""
    ids = [candidate.item.id for candidate in found]
    if wanted.popularity:
        votes = await store.popularity.votes(ids)
        least = min(votes.values(), default=0.0)
        found = [one.model_copy(update={"popularity": votes.get(one.item.id, least)}) for one in found]
    if wanted.vectors:
        vectors = {item_id: tuple(vector.tolist()) for item_id, vector in (await catalog.vectors(ids)).items()}
        found = [one.model_copy(update={"vector": vectors.get(one.item.id)}) for one in found]
    return found


def fuse(lists: Mapping[str, tuple[float, Sequence[str]]]) -> dict[str, dict[str, int]]:
    """Ids by falling Σ weight / (60 + rank) over the lists that name them, ties by id; for each its rank in every list."""
    ranks: dict[str, dict[str, int]] = {}
    priors: dict[str, float] = {}
    for name, (weight, found) in lists.items():
        for rank, item_id in enumerate(found, 1):
            ranks.setdefault(item_id, {})[name] = rank
            priors[item_id] = priors.get(item_id, 0.0) + weight / (RRF + rank)
    return {item_id: ranks[item_id] for item_id in sorted(ranks, key=lambda item_id: (-priors[item_id], item_id))}


def prior_of(ranks: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Σ weight / (60 + rank) over the sources that name an item."""
    return sum(weights[name] / (RRF + rank) for name, rank in ranks.items())


def _candidate(item: Item, ranks: dict[str, int], weights: Mapping[str, float]) -> Candidate:
    return Candidate.model_construct(item=item, prior=prior_of(ranks, weights), sources=ranks)
