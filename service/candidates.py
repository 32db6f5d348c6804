"""Finds the candidates of a request: retrieved from the catalogue, listed by the caller, or the
caller's own documents."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from service import retrieve
from service.catalog import Catalog, Scope
from service.config import history_of
from service.plan import Plan
from service.privacy import Views
from service.retrieve import Lookup, RetrievalQuery, factorization
from service.schema import Candidate, Filter, Item, RecommendRequest, UserState, Wish
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

    async def find(
        self, plan: Plan, person: UserState, views: Views, wish: Wish | Awaitable[Wish]
    ) -> tuple[list[Candidate], Wish]:
        """Returns candidates from the catalogue, highest prior first, and the wish that they meet.
        While a wish is being read, the person's own sources are asked. If nothing meets all of it,
        what it wants is given up first, and what it refuses last."""
        lookup = await self._lookup(plan, person, views)
        with_wish = partial(_with_wish, lookup, plan, person, views)

        async def wished(reading: Awaitable[Wish]) -> Lookup:
            return with_wish(await reading)

        if isinstance(wish, Wish):
            lookup = with_wish(wish)
            candidates = await retrieve.retrieve(lookup)
        else:
            reading = asyncio.ensure_future(wish)
            candidates = await retrieve.retrieve(lookup, wished(reading))
            wish = await reading
        for eased in [] if candidates or lookup.query.given is not None else _eased(wish):
            candidates = await retrieve.retrieve(with_wish(eased))
            if candidates:
                return candidates, eased
        return candidates, wish

    async def find_among(
        self, documents: Sequence[Item], plan: Plan, person: UserState, views: Views, wish: Wish
    ) -> tuple[list[Candidate], int]:
        """Returns documents as candidates, highest prior first, and how many of them could not be
        embedded in time. `documents`: those that have content."""
        lookup = _with_wish(await self._lookup(plan, person, views), plan, person, views, wish)
        now = asyncio.get_running_loop().time()
        until = now + EMBEDDING_SHARE * (plan.context.deadline - now)
        return await retrieve.documents(lookup, documents, until)

    async def warnings(self, plan: Plan, candidates: Sequence[Candidate]) -> list[str]:
        """Warnings about ids and filters of the request that had no effect."""
        return [
            *await self._unknown(plan.request),
            *await self._unmet(plan, candidates),
            *_relaxed(plan.wish),
        ]

    async def _lookup(self, plan: Plan, person: UserState, views: Views) -> Lookup:
        """Makes the retrieval query. It excludes items that the person has seen, unless the caller
        lists the candidates."""
        request, view = plan.request, views.embedder
        weights = plan.weights
        sources = weights.at(len(person.likes), asked=bool(request.context_items))
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


def _with_wish(lookup: Lookup, plan: Plan, person: UserState, views: Views, wish: Wish) -> Lookup:
    """The lookup with a wish: what it demands narrows the scope, unless the caller lists the
    candidates; the items that others shall be like are looked at, and not returned."""
    query, view = lookup.query, views.embedder
    context = list(dict.fromkeys([*query.context_items, *wish.like]))
    scope = query.scope
    if query.given is None:
        scope = replace(scope, exclude=scope.exclude | {*wish.like}, wish=wish.filters or None)
    asked = bool(wish.sought or context)
    changed = replace(
        query,
        wish=wish,
        meant=view.sent(wish.text) if view.allowed and wish.text else None,
        context_items=context,
        scope=scope,
        weights=_different(plan.weights.at(len(person.likes), asked=asked), wish),
    )
    return replace(lookup, query=changed)


def _different(weights: dict[str, float], wish: Wish) -> dict[str, float]:
    """The weights of the sources; none for those that look for more of the same if the wish is for
    something different."""
    same = {"similar", "closest", "lexical", "sequence"} if wish.different else set[str]()
    return {name: 0.0 if name in same else weight for name, weight in weights.items()}


def _relaxed(wish: Wish) -> list[str]:
    """A warning if not all of a wish could be met."""
    kept = f", but nothing with {', '.join(wish.avoided)}" if wish.avoided and wish.filters else ""
    given_up = ", ".join(wish.relaxed)
    return [f"wish: nothing meets all of it, given up: {given_up}{kept}"] if given_up else []


def _eased(wish: Wish) -> list[Wish]:
    """The wish with less and less demanded, as long as it demands anything: first what it wants
    becomes a preference, then nothing is left but what it refuses, and at last not even that."""
    refusals = {
        key: Filter(none=one.none) for key, one in wish.filters.items() if one.none is not None
    }
    wanted = {
        key: one.model_copy(update={"none": None})
        for key, one in wish.filters.items()
        if one.model_dump(exclude={"none"}, exclude_none=True)
    }
    eased = []
    if wanted:
        softly = {"filters": refusals, "soft": {**wanted, **wish.soft}, "relaxed": [*wanted]}
        eased.append(wish.model_copy(update=softly))
    if refusals or wish.words:
        nothing = {"filters": {}, "words": {}, "relaxed": [*wish.filters] or [*wish.words]}
        eased.append(wish.model_copy(update={**nothing, "soft": {**wanted, **wish.soft}}))
    return eased


def first_of(names: Sequence[object]) -> str:
    """Lists the first `NAMED` names and says how many more there are."""
    rest = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + rest
