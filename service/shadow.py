"""Shadow mode's work: beside the requests, bounded, and whatever becomes of it no request
notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from hashlib import sha256
from typing import Literal

from service.config import Shadow
from service.telemetry import Telemetry

Outcome = Literal["ranked", "failed", "dropped", "not_allowed"]
Job = Callable[[], Awaitable[Outcome]]


class Shadowing:
    """`at_once` jobs at a time, in the order in which they came, and as many `waiting` as told;
    what is beyond is dropped.

    Each outcome is counted. Jobs are on no caller's account, and are given up when the service is
    closed.
    """

    def __init__(self, told: Shadow, telemetry: Telemetry) -> None:
        self._told = told
        self._telemetry = telemetry
        self._turn = asyncio.Semaphore(told.at_once)
        self._tasks: set[asyncio.Task[None]] = set()

    def wants(self, ranking_id: str) -> bool:
        """Is it of the share? Its id decides, so every process says the same."""
        place = int.from_bytes(sha256(ranking_id.encode()).digest()[:8], "big") / 2**64
        return self._told.model is not None and place < self._told.share

    def begin(self, job: Job) -> None:
        if len(self._tasks) >= self._told.at_once + self._told.waiting:
            self._count("dropped")
            return
        task = asyncio.create_task(self._work(job), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, job: Job) -> None:
        async with self._turn:
            try:
                self._count(await job())
            except Exception as error:
                self._count("failed")
                self._telemetry.log.error(
                    "shadow_failed", alias=self._told.model, error=repr(error)
                )

    def _count(self, outcome: Outcome) -> None:
        self._telemetry.shadow.labels(outcome).inc()

    async def close(self) -> None:
        for _ in filter(asyncio.Task.cancel, self._tasks):
            self._count("dropped")
        if self._tasks:
            await asyncio.wait(self._tasks)
