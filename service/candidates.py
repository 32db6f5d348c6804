"""Finds the candidates of a request: retrieved from the catalogue, listed by the caller, or the
caller's own documents."""

import asyncio
from collections.abc import Sequence
from itertools import chain

from service import retrieve
from service.catalog import Catalog, Scope
from service.config import history_of
from service.plan import Plan
from service.privacy import Views
from service.retrieve import Lookup, RetrievalQuery, factorization
from service.schema import Candidate, Item, RecommendRequest, UserState
from service.store import Store

EMBEDDING_SHARE = 1 / 3
"""Largest share of the time until the deadline that embedding documents may take."""
UNKNOWN_ITEM = {
    "candidates": "so last and without a reason",
    "context_items": "so without effect",
    "exclude": "so without effect",
}
"""For each field of a request, how a warning words what happens to an id that the catalogue doesn't
have."""
NAMED = 20
"""How many ids, or places of documents, a warning lists."""


class Finder:
    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    async def find(self, plan: Plan, person: UserState, views: Views) -> list[Candidate]:
        """Returns candidates from the catalogue, highest prior first."""
        return await retrieve.retrieve(await self._lookup(plan, person, views))

    async def find_among(
        self, documents: Sequence[Item], plan: Plan, person: UserState, views: Views
    ) -> tuple[list[Candidate], int]:
        """Returns documents as candidates, highest prior first, and how many of them could not be
        embedded in time. `documents`: those that have content."""
        lookup = await self._lookup(plan, person, views)
        now = asyncio.get_running_loop().time()
        until = now + EMBEDDING_SHARE * (plan.context.deadline - now)
        return await retrieve.documents(lookup, documents, until)

    async def warnings(self, plan: Plan, candidates: Sequence[Candidate]) -> list[str]:
        """Warnings about ids and filters of the request that had no effect."""
        return [*await self._unknown(plan.request), *await self._unmet(plan, candidates)]

    async def _lookup(self, plan: Plan, person: UserState, views: Views) -> Lookup:
        """Makes the retrieval query. It excludes items that the person has seen, unless the caller
        lists the candidates."""
        request, view = plan.request, views.embedder
        weights, instruction = plan.weights, request.instruction
        asked = instruction is not None or bool(request.context_items)
        sources = weights.at(len(person.likes), asked=asked)
        factors = (
            await factorization.taste(self._store, self._catalog, person)
            if sources["collaborative"]
            else None
        )
        exclude = frozenset(request.exclude)
        hidden = exclude | person.seen | frozenset(request.context_items)
        given, scope = None, Scope(exclude=hidden, filters=request.filters, kind=plan.kind)
        if request.candidates is not None:
            given = [item_id for item_id in request.candidates if item_id not in exclude]
            scope = Scope(only=frozenset(given))
        query = RetrievalQuery(
            k=plan.retrieved if given is None else len(given),
            weights=sources,
            scope=scope,
            given=given,
            instruction=instruction,
            meant=view.sent(instruction) if view.allowed and instruction is not None else None,
            embeds=view.allowed,
            context_items=request.context_items,
            factors=factors,
            avoid=person.avoid | frozenset(request.avoid),
            popularity=bool(weights.popularity),
            vectors=bool(weights.diversity),
            features=request.explain == "full",
            ranker=plan.rankers.get(history_of(len(person.likes))),
        )
        return Lookup(self._store, self._catalog, person, query)

    async def _unknown(self, request: RecommendRequest) -> list[str]:
        """Returns a warning for each list of ids in the request that has ids unknown to the
        catalogue."""
        named = request.candidates or ()
        lists = {
            "candidates": [item_id for item_id in named if item_id not in request.exclude],
            "context_items": request.context_items,
            "exclude": request.exclude,
        }
        known = set(await self._catalog.search.known(chain(*lists.values())))
        unknown = {
            name: [item_id for item_id in ids if item_id not in known]
            for name, ids in lists.items()
        }
        return [
            f"{name}: not in the catalogue, {UNKNOWN_ITEM[name]}: {first_of(missing)}"
            for name, missing in unknown.items()
            if missing
        ]

    async def _unmet(self, plan: Plan, candidates: Sequence[Candidate]) -> list[str]:
        """Returns warnings if there are no candidates: whether the request's filters or the
        domain's are the cause, and which values the catalogue has for the request's filters.
        Returns an empty list otherwise."""
        request = plan.request
        if candidates or not (request.filters or plan.kind):
            return []
        if plan.kind and not await self._catalog.search.some(1, Scope(kind=plan.kind)):
            return [f"domain {plan.domain}: no item is of its kind (catalog.scopes.{plan.domain})"]
        if not request.filters:
            return []
        if await self._catalog.search.some(1, Scope(filters=request.filters, kind=plan.kind)):
            return ["filters: all that they admit is excluded, or this person has had it"]
        facets = await self._catalog.facets()
        known = {key: facets.in_words(key) for key in request.filters}
        values = [
            f"filters.{key}: the catalogue has {listed}" for key, listed in known.items() if listed
        ]
        return ["filters: no item meets them", *values]


def first_of(names: Sequence[object]) -> str:
    """Lists the first `NAMED` names and says how many more there are."""
    rest = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + rest
