"""Work that follows an answer without delaying it: logs the ranking, and has a shadow model rank a
sample again."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from service.plan import Plan
from service.schema import Candidate, Ranking, UserState
from service.store import Store
from service.store.database import micros
from service.store.events import log_key
from service.telemetry import Telemetry


class Shadow(Protocol):
    """Has another model rank the candidates of a shown ranking again. `logged`: the task that
    writes the shown ranking to the log."""

    def follow(
        self,
        shown: Ranking,
        plan: Plan,
        person: UserState,
        candidates: Sequence[Candidate],
        logged: asyncio.Task[None],
    ) -> None: ...


class Observers:
    def __init__(
        self, store: Store, telemetry: Telemetry, shadow: Shadow, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._shadow = shadow
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def shown(
        self, ranking: Ranking, plan: Plan, person: UserState, candidates: Sequence[Candidate]
    ) -> None:
        """Logs a ranking that was shown, and hands it to the shadow model. Rankings without a user
        or session are logged, but not ranked again: no later event could tell which was better."""
        self._telemetry.ranked(ranking)
        who = log_key(plan.request.user_id, plan.request.session_id) if plan.known else None
        task = asyncio.create_task(
            self._store.rankings.log(
                ranking, who=who, domain=plan.domain, shown_at=micros(self._clock())
            )
        )
        self._tasks.add(task)
        task.add_done_callback(self._logged)
        if plan.known and len(candidates) > 1:
            self._shadow.follow(ranking, plan, person, candidates, task)

    async def settled(self) -> None:
        """Waits until all rankings shown so far are in the log."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _logged(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._telemetry.log.error("ranking_not_logged", error=repr(error))
