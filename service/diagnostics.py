"""Reports whether each part of the service works, and its metrics."""

import asyncio
import shutil
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from service import retrieve
from service.catalog import Catalog
from service.config import Settings
from service.errors import DiskFull, ModelError, StorageError, WhyrankError
from service.llm.openai import load_client
from service.models import Models
from service.rank.selection import SPECS
from service.schema import Capabilities
from service.store import Store
from service.telemetry import Telemetry

LEAST_FREE = 64 * 2**20
"""Free disk space in bytes below which writes may soon fail."""

Part = dict[str, Any]
"""State of one part: `ok`; `why`, if it isn't ok; and figures about the part."""


@dataclass(frozen=True, eq=False, repr=False)
class Diagnostics:
    settings: Settings
    store: Store
    catalog: Catalog
    models: Models
    telemetry: Telemetry
    logged: dict[str, str] = field(default_factory=dict)
    """The problem last logged for each part, by the part's name; empty if it had none."""

    async def prepare(self) -> None:
        """Loads what the first request would otherwise wait for, as the embedder, and checks store
        and catalogue. Raises a `StorageError` or `ConfigError` if they are damaged."""
        await asyncio.to_thread(self.store.check)
        await self.catalog.health.examine()
        with suppress(ModelError):  # an embedder outside may be away
            await self.catalog.embedder.embed_one("a first text")
        await asyncio.to_thread(load_client)
        await asyncio.to_thread(retrieve.load_bm25)

    async def readiness(self, seconds: float = 5) -> dict[str, Part]:
        """Checks all parts of the service; returns the state of each by its name. `seconds`: the
        time limit of each check. The service can answer as long as `store` and `catalog` are ok."""
        aliases = self._roles()
        problems = await asyncio.gather(
            *(self._why_unready(alias, seconds) for alias in aliases.values())
        )
        parts = {
            "store": await read_part(asyncio.to_thread(self.store.check), seconds),
            "catalog": await read_part(self._read_catalog(), seconds),
            "collaborative": await read_part(self._read_training(), seconds),
            "disk": await read_part(self._read_disk(), seconds),
            "upkeep": await read_part(self._read_upkeep(), seconds),
        }
        self._log_changes(parts)
        for (role, alias), problem in zip(aliases.items(), problems, strict=True):
            parts[f"model:{role}"] = self._model_part(role, alias, problem)
        return parts

    async def metrics(self) -> bytes:
        """Returns the metrics in Prometheus' text format. If the catalogue can't be read, the
        embedding backlog is its last known value."""
        with suppress(StorageError):
            self.telemetry.backlog.set(await self.catalog.backlog.count())
        return self.telemetry.exposition()

    def _roles(self) -> dict[str, str]:
        """Aliases of the models in use, by role, as `rank`, `fallback[0]` or `shadow`."""
        roles = {
            **self.settings.roles.model_dump(),
            **{f"fallback[{n}]": alias for n, alias in enumerate(self.settings.fallback)},
            "shadow": self.settings.shadow.model,
        }
        return {role: alias for role, alias in roles.items() if alias is not None}

    async def _read_catalog(self) -> Part:
        await self.catalog.health.examine()
        backlog = await self.catalog.backlog.count()
        self.telemetry.backlog.set(backlog)
        return {
            "items": await self.catalog.count(),
            "dimension": self.catalog.dimension,
            "embedding_backlog": backlog,
        }

    async def _read_training(self) -> Part:
        """Returns figures on the last training of the collaborative source: None and zeros before
        the first training."""
        last = await self.store.trainings.latest()
        if last is None:
            return {"trained_at": None, "events": 0, "items": 0}
        return {
            "trained_at": last.trained_at.isoformat(),
            "events": last.events,
            "items": last.items,
        }

    async def _read_disk(self) -> Part:
        """Returns the free space on the fuller of the disks that hold the data. Raises `DiskFull`
        if a disk is nearly full, or if the last write was refused."""
        disks = [
            await asyncio.to_thread(shutil.disk_usage, folder)
            for folder in (self.settings.data, self.store.file.path.parent)
        ]
        free = min(disk.free for disk in disks)
        for refused in (self.store.file.full, self.catalog.full):
            if refused is not None:
                raise refused
        if free < LEAST_FREE:
            raise DiskFull(
                f"{free >> 20} MB are free for {self.settings.data}; below {LEAST_FREE >> 20} "
                "writes may fail"
            )
        return {"free_mb": free >> 20}

    async def _read_upkeep(self) -> None:
        """Raises the error that ended the catalogue's last round of background work, if one did."""
        if self.catalog.failing is not None:
            raise self.catalog.failing

    def _log_changes(self, parts: Mapping[str, Part]) -> None:
        """Logs a part's problem when it begins or changes, and when it ends."""
        for name, part in parts.items():
            why = part.get("why", "")
            if why != self.logged.get(name, ""):
                log = self.telemetry.log.error if why else self.telemetry.log.info
                log("part_not_ready" if why else "part_ready", part=name, why=why)
            self.logged[name] = why

    async def _why_unready(self, alias: str, seconds: float) -> str:
        """Returns why a model doesn't work; an empty text if it does. A model that costs money is
        not called: its last probe and its circuit breaker decide."""
        if not self.settings.models[alias].costs:
            return await self.models.why_unusable(alias, seconds)
        if self.models.capabilities(alias) is None:
            return f"no answer yet: 'whyrank models probe {alias}' asks it"
        return "resting after failures" if self.models.scorers[alias].resting else ""

    def _model_part(self, role: str, alias: str, problem: str) -> Part:
        """State of the model of a role. It is not ok if it has a problem, or lacks a capability
        that the role needs."""
        able = self.models.capabilities(alias)
        if not problem and able and not self._fits(role, able):
            problem = f"no_capability: it lacks what this role needs (whyrank models probe {alias})"
        told = {"capabilities": able.model_dump(mode="json") if able else None, "why": problem}
        known = {name: value for name, value in told.items() if value}
        return {"ok": not problem, "alias": alias, **known}

    def _fits(self, role: str, able: Capabilities) -> bool:
        """Whether a model has the capabilities that a role needs."""
        if role == "score":
            return SPECS["likelihood"].needs(able)
        if role != "rank":
            return True
        asked = self.settings.rank.strategy
        names = [*self.settings.rank.prefer] if asked == "auto" else [asked]
        return any(
            name == "prior" or (SPECS[name].make is not None and SPECS[name].needs(able))
            for name in names
        )


async def read_part(reading: Awaitable[Part | None], seconds: float) -> Part:
    """Returns a part's state: the figures that `reading` returns, or why it failed or took more
    than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return {"ok": True, **(await reading or {})}
    except TimeoutError:
        return {"ok": False, "why": f"no answer within {seconds:g} s"}
    except WhyrankError as error:
        return {"ok": False, "why": error.message}
    except Exception as error:  # whatever is wrong with it: who asks what works needs an answer
        return {"ok": False, "why": repr(error)}
