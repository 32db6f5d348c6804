"""Candidates: several sources, each a ranked list, fused by weighted reciprocal ranks into one prior."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.catalog import EVERYTHING, Catalog, Scope, Vectors
from service.schema import Candidate, Item, UserState
from service.store import Store

RRF = 60
"""The constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""


@dataclass(frozen=True)
class Wanted:
    """What to look for. `k`: how many candidates, `depth` of them from each source; `given`: rank these ids instead of
    looking; weights by source name."""

    k: int
    weights: Mapping[str, float]
    scope: Scope = EVERYTHING
    given: Sequence[str] | None = None
    instruction: str | None = None
    context_items: Sequence[str] = ()

    @property
    def depth(self) -> int:
        """Sources go deeper than what is kept: an item that several of them name far down may beat one's favourite."""
        return 4 * self.k


class Source(Protocol):
    """A ranked list of admissible items, best first, at most `wanted.depth`."""

    def __call__(self, state: UserState, wanted: Wanted) -> Awaitable[Sequence[Item]]: ...


async def retrieve(store: Store, catalog: Catalog, state: UserState, wanted: Wanted) -> list[Candidate]:
    """Candidates by falling prior; ties by id, so that the order of a given list never matters.

    With `given`, every one of its ids comes back exactly once; the catalogue's unknown ones last and without a title.
    """

    async def similar(state: UserState, wanted: Wanted) -> Sequence[Item]:
        return await nearest(wanted, [(taste.vector, taste.weight) for taste in state.interests])

    async def context(state: UserState, wanted: Wanted) -> Sequence[Item]:
        vectors = await catalog.vectors(wanted.context_items)
        return await nearest(wanted, [(vector, 1.0) for vector in vectors.values()])

    async def query(state: UserState, wanted: Wanted) -> Sequence[Item]:
        return await catalog.search(wanted.instruction, wanted.depth, wanted.scope) if wanted.instruction else []

    async def popular(state: UserState, wanted: Wanted) -> Sequence[Item]:
        if wanted.given is not None:
            return list((await catalog.get(await store.popularity.among(list(wanted.given)))).values())
        found: list[Item] = []
        page, offset = wanted.depth + len(wanted.scope.exclude), 0
        while len(found) < wanted.depth and (ids := await store.popularity.top(page, offset)):
            found += (await catalog.get(ids, wanted.scope)).values()
            offset += page
        return found[: wanted.depth]

    async def nearest(wanted: Wanted, tastes: Sequence[tuple[Sequence[float] | Vectors, float]]) -> Sequence[Item]:
        lists = await asyncio.gather(*(catalog.similar(vector, wanted.depth, wanted.scope) for vector, _ in tastes))
        weighted = {str(n): (weight, found) for n, (found, (_, weight)) in enumerate(zip(lists, tastes, strict=True))}
        return [candidate.item for candidate in fuse(weighted)][: wanted.depth]

    sources: dict[str, Source] = {"similar": similar, "context": context, "query": query, "popular": popular}
    used = {name: weight for name, weight in wanted.weights.items() if weight > 0}
    lists = await asyncio.gather(*(sources[name](state, wanted) for name in used))
    fused = fuse({name: (used[name], found) for name, found in zip(used, lists, strict=True)})[: wanted.k]
    if wanted.given is not None:
        return fused + await _rest(catalog, wanted.given, fused)
    if len(fused) < wanted.k:
        held = {candidate.item.id for candidate in fused}
        fused += [
            Candidate.model_construct(item=item, prior=0.0, sources={})
            for item in await catalog.some(wanted.k, wanted.scope)
            if item.id not in held
        ][: wanted.k - len(fused)]
    return fused


def fuse(lists: Mapping[str, tuple[float, Sequence[Item]]]) -> list[Candidate]:
    """Σ weight / (60 + rank) over the lists that name an item; highest first, ties by id."""
    items: dict[str, Item] = {}
    ranks: dict[str, dict[str, int]] = {}
    for name, (_, found) in lists.items():
        for rank, item in enumerate(found, 1):
            items[item.id] = item
            ranks.setdefault(item.id, {})[name] = rank
    candidates = [
        Candidate.model_construct(
            item=item,
            prior=sum(lists[name][0] / (RRF + rank) for name, rank in ranks[item_id].items()),
            sources=ranks[item_id],
        )
        for item_id, item in items.items()
    ]
    return sorted(candidates, key=lambda candidate: (-candidate.prior, candidate.item.id))


async def _rest(catalog: Catalog, given: Sequence[str], ranked: Sequence[Candidate]) -> list[Candidate]:
    """Given ids that no source named: known ones first."""
    missing = set(given) - {candidate.item.id for candidate in ranked}
    known = await catalog.get(missing)
    items = [known.get(item_id) or Item.model_construct(id=item_id) for item_id in missing]
    items.sort(key=lambda item: (item.id not in known, item.id))
    return [Candidate.model_construct(item=item, prior=0.0, sources={}) for item in items]
