"""Has a second model rank a sample of requests again, after they were answered. This delays no
request, and its failures reach none."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Literal

from service.config import Settings
from service.context import CallContext
from service.errors import ModelIncapable
from service.pipeline import Stages
from service.plan import Plan
from service.ranker import ranking_of
from service.schema import Candidate, Ranking, UserState
from service.store import Store
from service.store.events import log_key
from service.telemetry import Stopwatch, Telemetry

Outcome = Literal["ranked", "failed", "dropped", "not_allowed"]


class Shadowing:
    """Runs at most `shadow.at_once` shadow rankings at a time and keeps `shadow.waiting` more in a
    queue; drops any beyond.

    Counts every outcome. The work is charged to no API key, and is cancelled when the service
    closes.
    """

    def __init__(
        self,
        settings: Settings,
        stages: Stages,
        *,
        store: Store,
        telemetry: Telemetry,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings.shadow
        self._clock = clock
        self._stages = stages
        self._store = store
        self._telemetry = telemetry
        self._turn = asyncio.Semaphore(self._settings.at_once)
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(
        self,
        shown: Ranking,
        plan: Plan,
        person: UserState,
        candidates: Sequence[Candidate],
        logged: asyncio.Task[None],
    ) -> None:
        """Queues a ranking that was shown for the shadow model, if it belongs to the sample.
        `logged`: the task that writes that ranking to the log."""
        alias = self._settings.model
        if alias is None or not of_share(shown.ranking_id, self._settings.share):
            return
        if len(self._tasks) >= self._settings.at_once + self._settings.waiting:
            self._count("dropped")
            return
        task = asyncio.create_task(self._work(alias, shown, plan, person, candidates, logged))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            if task.cancel():
                self._count("dropped")
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(
        self,
        alias: str,
        shown: Ranking,
        plan: Plan,
        person: UserState,
        candidates: Sequence[Candidate],
        logged: asyncio.Task[None],
    ) -> None:
        async with self._turn:
            try:
                await asyncio.wait([logged])
                self._count(await self._rank_again(alias, shown, plan, person, candidates))
            except Exception as error:
                self._count("failed")
                self._telemetry.log.error("shadow_failed", alias=alias, error=repr(error))

    async def _rank_again(
        self,
        alias: str,
        shown: Ranking,
        plan: Plan,
        person: UserState,
        candidates: Sequence[Candidate],
    ) -> Outcome:
        """Ranks the candidates with the shadow model and returns the outcome. Skips a person who
        was forgotten, or forbade hosted models, in the meantime."""
        who = log_key(plan.request.user_id, plan.request.session_id)
        if await self._store.rankings.get(shown.ranking_id) is None:
            return "dropped"
        stored = await self._store.users.get(who)
        if stored is not None and not stored[0].allow_hosted:
            person = person.model_copy(update={"allow_hosted": False})
        views = await self._stages.people.views(plan.request, person)
        if not views.of(alias).allowed:
            return "not_allowed"
        watch, own = Stopwatch(), self._own_plan(plan, alias)
        order = await self._stages.ranker.rank(own, person, candidates, views)
        watch.mark("model_ms")
        ranking = ranking_of(order, own, person, watch.timings(), len(candidates))
        await self._store.shadows.log(
            _beside(ranking, shown, plan.request.top_n), who=who, alias=alias, at=self._clock()
        )
        return "failed" if order.degraded is not None and order.model is None else "ranked"

    def _own_plan(self, plan: Plan, alias: str) -> Plan:
        """Returns the plan with the shadow model alone. Its fallbacks are removed: its failures are
        to be measured, and must not cost another model. Raises `ModelIncapable` if the model can't
        be asked for the configured strategy."""
        changes = {
            "model": alias,
            "strategy": self._settings.strategy,
            "deadline_ms": self._settings.deadline_ms,
            "explain": "none",
        }
        own = self._stages.planner.unbounded(plan.request.model_copy(update=changes), CallContext())
        steps = [step for step in own.ladder.steps if step.model == alias]
        if not steps:
            raise ModelIncapable(f"{alias} can't be asked for {self._settings.strategy}")
        return replace(
            plan,
            request=own.request,
            ladder=replace(own.ladder, steps=steps),
            shares=own.shares,
            context=replace(plan.context, deadline=own.context.deadline, call=own.context.call),
        )

    def _count(self, outcome: Outcome) -> None:
        self._telemetry.shadow.labels(outcome).inc()


def of_share(ranking_id: str, share: float) -> bool:
    """Whether a ranking belongs to the sample. A hash of its id decides, so all processes agree."""
    return int.from_bytes(sha256(ranking_id.encode()).digest()[:8], "big") / 2**64 < share


def _beside(ranking: Ranking, shown: Ranking, top_n: int) -> Ranking:
    """Returns the shadow's ranking under the id of `shown`, reduced to its first `top_n` items and
    the items that were shown."""
    known = {item.item_id for item in shown.items}
    items = [item for item in ranking.items if item.rank <= top_n or item.item_id in known]
    return ranking.model_copy(update={"ranking_id": shown.ranking_id, "items": items})
