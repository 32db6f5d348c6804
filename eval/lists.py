"""Lists that a ranker learns from and is judged by: the candidates that the service retrieves for a
person, with their features and what the person liked next.

There are three kinds. Lists of the folder's own cases. Lists of earlier cuts: the folder's own
protocol is applied to its log again and again, each time to what the last cut left, and the sources
are trained anew on each of these logs, so that they know nothing later than a list's answers. And
lists of strangers (`eval.strangers`) after one like, after two, and so on, since hardly any case is
of a person with few likes."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from eval import protocols
from eval.cases import Case, Data
from eval.metrics import metric
from eval.run import DEADLINE_MS
from eval.store import Make, fill, housed
from eval.strangers import Strangers
from service.build import Service
from service.config import Settings
from service.errors import BadRequest
from service.schema import Ranked, Ranking, RecommendRequest

LISTS = 2_000
"""The number of lists from which on no further cut is made."""
CUTS = 8
"""The most cuts that are made."""
STRANGERS = 200
"""The most people who are treated as strangers: their log is held back from the sources."""
KNOWN_LIKES = (1, 2, 3, 6, 12)
"""After how many known likes a list of a stranger is made."""
AT_ONCE = 4
HEADLINE = metric("nDCG@10")

Tell = Callable[[str], None]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeatureList:
    """A person's candidates. `likes`: the length of the person's history; `ids`: the candidates,
    highest prior first; `values`: their features, shape [candidates, features], in the order of
    `names`; `relevant`: the answers."""

    user: str
    likes: int
    ids: Sequence[str]
    names: tuple[str, ...]
    values: Values
    relevant: frozenset[str]

    @property
    def chosen(self) -> npt.NDArray[np.bool_]:
        return np.array([item_id in self.relevant for item_id in self.ids], dtype=np.bool_)

    @property
    def prior_ndcg(self) -> float:
        return HEADLINE.of(list(self.ids), self.relevant)

    def ndcg(self, scores: Values) -> float:
        order = np.argsort(-scores, kind="stable")
        return HEADLINE.of([self.ids[place] for place in order], self.relevant)

    def table(self, names: Sequence[str]) -> Values:
        """Returns the features in the order of `names`, shape [candidates, names]; 0 for a feature
        that the list lacks."""
        places = {name: place for place, name in enumerate(self.names)}
        columns = [
            self.values[:, places[name]] if name in places else np.zeros(len(self.ids))
            for name in names
        ]
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class ServedList:
    """A list to judge a ranker by. `served`: nDCG@10 of the order that the service now serves."""

    features: FeatureList
    served: float


class Lists:
    """Makes lists on stores below `out`. Services on the logs of several cuts share the items'
    vectors: only what is learned from the log differs."""

    def __init__(self, settings: Settings, out: Path, make: Make, tell: Tell) -> None:
        self._out = out
        self._served = settings
        self._plain = settings.changed({"rank": {"fitted": False}})
        self._make = make
        self._tell = tell
        self._catalog: Path | None = None
        self._meanings = settings.events.of(settings.service.domain)
        self.embedder = ""
        """The name of the embedder, once a list was made."""

    async def of_cuts(self, data: Data) -> AsyncIterator[FeatureList]:
        """Yields the lists of earlier and earlier cuts. Raises `BadRequest` for a protocol that
        can't be applied again."""
        name, options = self._cutting(data.folder)
        count = 0
        for n in range(1, CUTS + 1):
            folder = self._out / f"cut-{n}"
            try:
                protocols.make(data, name, folder, options)
            except BadRequest:
                return  # nothing is left to ask for
            data = Data.read(folder)
            service = await self._service(self._plain, data, "stores")
            try:
                found = await self._asked(service, self._plain, data.cases[: LISTS - count])
            finally:
                await service.close()
            self._tell(f"cut {n}: {len(found)} lists from {len(data.events):,} events")
            for each in found:
                yield each
            count += len(found)
            if count >= LISTS:
                return

    def _cutting(self, folder: Path) -> tuple[str, protocols.Options]:
        about = protocol_of(folder)
        name = about["protocol"]
        if name not in protocols.PROTOCOLS or name == "given":
            raise BadRequest(
                f"{folder}: cases of protocol {name!r} can't be cut again: make some by 'whyrank "
                "eval cases', as --protocol temporal or global-time"
            )
        return name, protocols.Options(
            self._meanings,
            share=about.get("share", protocols.SHARE),
            cut=about.get("cut", protocols.CUT),
        )

    async def of_cases(self, data: Data) -> list[ServedList]:
        """The lists of the folder's own cases."""
        service = await self._service(self._plain, data, "stores")
        serving = await self._serving(data, "stores")
        try:
            found = await self._judged(service, serving, data.cases)
        finally:
            await _close(service, serving)
        self._tell(f"{len(found)} cases retrieved")
        return found

    async def of_strangers(self, data: Data) -> list[ServedList]:
        """Returns lists of people whose log the sources did not see: of each person one for every
        number in `KNOWN_LIKES` that is below the length of the history."""
        people = {case.user_id: case for case in data.cases if len(case.history) > 1}
        chosen = [people[user] for user in sorted(people)][:: len(people) // STRANGERS + 1]
        if not chosen:
            return []
        strangers = Strangers(replace(data, cases=chosen))
        shutil.rmtree(self._out / "strangers", ignore_errors=True)  # of an earlier run
        service = await self._service(self._plain, strangers.others, "strangers")
        serving = await self._serving(strangers.others, "strangers")
        found: list[ServedList] = []
        try:
            for likes in KNOWN_LIKES:
                await service.ingest.events(strangers.events(likes))
                known = [
                    case.model_copy(update={"history": case.history[-likes:]})
                    for case in strangers.cases
                    if len(case.history) > likes
                ]
                found += await self._judged(service, serving, known)
        finally:
            await _close(service, serving)
        self._tell(f"{len(found)} lists of {len(chosen)} people as strangers")
        return found

    async def _judged(
        self, service: Service, serving: Service | None, cases: Sequence[Case]
    ) -> list[ServedList]:
        lists = await self._asked(service, self._plain, cases)
        if serving is None:
            return [ServedList(each, each.prior_ndcg) for each in lists]
        served = await self._asked(serving, self._served, cases)
        pairs = zip(lists, served, strict=True)
        return [ServedList(each, other.prior_ndcg) for each, other in pairs]

    async def _serving(self, data: Data, under: str) -> Service | None:
        """Returns a service with the rankers that serve now; None if the domain has none."""
        if self._served.service.domain not in self._served.rankers():
            return None
        return await self._service(self._served, data, under)

    async def _service(self, settings: Settings, data: Data, under: str) -> Service:
        home = housed(settings, data, self._out / under)
        if self._catalog is not None and not home.data.exists():
            await asyncio.to_thread(shutil.copytree, self._catalog, home.data / "catalog")
        service = await self._make(home)
        await fill(service, data, home.data)
        self._catalog, self.embedder = home.data / "catalog", service.embeddings.name
        return service

    async def _asked(
        self, service: Service, settings: Settings, cases: Sequence[Case]
    ) -> list[FeatureList]:
        """Returns the list that `service` makes for each case, in the order of the cases."""
        slots = asyncio.Semaphore(AT_ONCE)
        size = min(settings.retrieve.k, settings.limits.top_n)

        async def ask(case: Case) -> FeatureList:
            request = RecommendRequest(
                user_id=case.user_id,
                exclude=case.exclude,
                candidates=case.candidates,
                top_n=len(case.candidates) if case.candidates is not None else size,
                strategy="prior",
                explain="full",
                deadline_ms=DEADLINE_MS,
            )
            async with slots, aclosing(await service.recommender.stream(request)) as answer:
                # the ranking comes first, with all that a ranker reads; reasons are not awaited
                return _list(case, cast(Ranking, await anext(answer)).items)

        return await asyncio.gather(*map(ask, cases))


async def _close(*services: Service | None) -> None:
    for service in services:
        if service is not None:
            await service.close()


def protocol_of(folder: Path) -> dict[str, Any]:
    """Returns what the folder's `protocol.json` says; `protocol` is `given` if it says nothing."""
    file = folder / "protocol.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return {"protocol": "given", **content}


def feature_names(lists: Iterable[FeatureList]) -> tuple[str, ...]:
    """Returns, sorted, the names of the features that vary within at least one list, and
    `likes`."""
    seen: dict[str, bool] = {}
    for each in lists:
        varied = each.values.std(axis=0) > 0 if len(each.values) else []
        for name, varies in zip(each.names, varied, strict=False):
            seen[name] = seen.get(name, False) or bool(varies) or name == "likes"
    return tuple(sorted(name for name, varies in seen.items() if varies))


def _list(case: Case, items: Sequence[Ranked]) -> FeatureList:
    rows = [_features(item.signals) for item in items]
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    values = np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=np.float64)
    return FeatureList(
        user=case.user_id,
        likes=len(case.history),
        ids=[item.item_id for item in items],
        names=names,
        values=values,
        relevant=frozenset(case.relevant),
    )


def _features(signals: Mapping[str, float]) -> dict[str, float]:
    """Returns the features among an item's signals, under the names that a ranker knows."""
    return {
        name.removeprefix("feature."): value
        for name, value in signals.items()
        if name.startswith(("feature.", "score."))
    }
