"""Has a ranker learned from the service's own log at regular intervals, by `whyrank fit` in a
process of its own: the serving process keeps its memory and most of its processor time."""

import asyncio
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from service.config import Settings
from service.telemetry import Telemetry

COMMAND = "from service.cli import app; app()"
STAMP = "begun"
"""A file whose time says when a ranker was last begun to be learned."""
NICE = 10
"""The niceness of the learning process."""
CHECKED_S = 60.0
"""The most seconds between two checks whether learning is due."""


class RankerLearning:
    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._every_h = settings.rank.training.every_h
        self._config = settings.file
        self._out = settings.data / "ranker"
        self._telemetry = telemetry

    async def run(self) -> None:
        """Learns whenever `every_h` hours have passed, until cancelled. Returns at once if
        `every_h` is None, or if the settings come from no file that `whyrank fit` could read. Of
        several processes, the first to see that learning is due learns."""
        if self._every_h is None or self._config is None:
            return
        every_s = self._every_h * 3_600
        while True:
            if self._age_s() >= every_s:
                self._out.mkdir(parents=True, exist_ok=True)
                (self._out / STAMP).touch()
                await self.learn()
            await asyncio.sleep(min(every_s, CHECKED_S))

    async def learn(self) -> None:
        """Runs `whyrank fit`, and logs how it ended."""
        options = ["fit", "--ranker", "auto", "--out", str(self._out)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", COMMAND, *options),
            env={**os.environ, "WHYRANK_CONFIG": str(self._config)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        log = self._telemetry.log.warning if process.returncode else self._telemetry.log.info
        last = output.decode(errors="replace").strip().splitlines()[-1:]
        log("ranker_learned" if not process.returncode else "ranker_not_learned", said=last)

    def _age_s(self) -> float:
        """Seconds since a ranker was last begun to be learned; endless if none ever was."""
        stamp: Path = self._out / STAMP
        return time.time() - stamp.stat().st_mtime if stamp.exists() else float("inf")
