"""Runs a suite through the service's own pipeline. Rows are kept as they come; a killed run goes on
where it stopped."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from eval.cases import Case, Data
from eval.metrics import metric
from eval.rows import Attempt, RunJob, RunRow, append, locked, mend, row_of, rows
from eval.store import Make, fill, housed
from eval.suite import Arm, Suite
from service.build import Service
from service.config import Settings
from service.context import CallContext
from service.errors import BadRequest, StorageError, WhyrankError, reasons
from service.schema import RecommendRequest

Step = Callable[["Progress"], None]
"""Called whenever a question was answered or skipped."""
DEADLINE_MS = 600_000
"""The deadline of each request, long enough for any case: no ranking is to be worse for want of
time."""
SHOWN = {"": None, "reversed": "reversed", "own": "shuffled", "other": "shuffled"}
"""By probe, the order in which the model sees the candidates; None: as configured."""


@dataclass(frozen=True)
class Allowance:
    """How much a run may ask: `limit`: only the first so many cases; `concurrency`: rankings at a
    time; `spend`: US dollars over the whole run, kept answers included. None: no bound."""

    limit: int | None = None
    concurrency: int = 4
    spend: float | None = None


@dataclass
class Progress:
    """What a run has done, kept rows included. `cost`: US dollars; `unpaid`: questions that were
    not asked for want of money; `sums`: sum and count of the first metric, by arm."""

    total: int
    done: int = 0
    unpaid: int = 0
    cost: float = 0.0
    tokens: int = 0
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def running(self) -> dict[str, float]:
        """The mean of the first metric, by arm."""
        return {name: total / count for name, (total, count) in self.sums.items()}

    def add(self, row: RunRow) -> None:
        self.done += 1
        self.cost += row.cost or 0.0
        self.tokens += sum(row.tokens)

    def score(self, arm: str, value: float) -> None:
        total, count = self.sums.get(arm, (0.0, 0))
        self.sums[arm] = total + value, count + 1


class Run:
    """A folder with `manifest.json`, `rows.jsonl` and a store for each data folder. Made by `async
    with Run.open(…)`."""

    def __init__(
        self, suite: Suite, settings: Settings, out: Path, make: Make, limit: int | None
    ) -> None:
        self.suite = suite
        self.out = out
        self.base = settings
        if suite.domain is not None:
            self.base = settings.changed({"service": {"domain": suite.domain}})
        self.arms = suite.arms(self.base)
        self.data = {folder: Data.read(folder) for folder in suite.data}
        self.limit = limit
        self._make = make
        self._services: dict[str, Service] = {}
        self._making = asyncio.Lock()
        self._settings: dict[str, Settings] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, suite: Suite, settings: Settings, out: Path, make: Make, limit: int | None = None
    ) -> AsyncIterator[Run]:
        """Opens a run of `suite` in the folder `out`, after checking everything that can be
        checked without a model. `make` builds the service of each arm. `limit`: only the first
        so many cases. Raises `BadRequest`, `ConfigError` or `PromptError`."""
        run = cls(suite, settings, out, make, limit)
        try:
            await run._check()
            yield run
        finally:
            for service in run._services.values():
                await service.close()

    async def _check(self) -> None:
        names = {arm.name for arm in self.arms}
        if not any(self.suite.baseline in {name, name.partition(" ")[0]} for name in names):
            raise BadRequest(
                f"baseline {self.suite.baseline!r} is no arm; arms: {', '.join(sorted(names))}"
            )
        for data in self.data.values():
            data.audit()
        for arm in self.arms:
            service = await self.service(arm)
            for case in self.cases(arm):
                try:
                    request = self.request(RunJob(arm, case))
                except ValidationError as error:
                    raise BadRequest(
                        f"{arm.data / 'cases.jsonl'}: case {case.case_id}: {reasons(error)}"
                    ) from error
            await service.previewer.preview(request, arm.task)
        self._keep_manifest()

    def _keep_manifest(self) -> None:
        """Writes the manifest at the first run. Raises `BadRequest` if the folder holds a run with
        another manifest: its rows would not compare."""
        file = self.out / "manifest.json"
        manifest = self.manifest()
        if file.exists():
            kept, current = json.loads(file.read_text()), json.loads(json.dumps(manifest))
            if changed := [key for key in current if current[key] != kept.get(key)]:
                raise BadRequest(
                    f"{self.out} holds a run with another {', '.join(changed)}: choose another "
                    f"--out"
                )
            return
        once = {
            "folders": [str(folder.resolve()) for folder in self.suite.data],
            "notes": self._notes(),
            "begun_at": now(),
        }
        self.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**manifest, **once}, indent=2) + "\n")

    def manifest(self) -> dict[str, Any]:
        """Returns what a repetition of the run needs: versions, hashes and settings."""
        prompts = {
            prompt.ref.id: prompt.ref.sha
            for service in self._services.values()
            for prompt in service.previewer.prompts()
        }
        packages = ("whyrank", "lancedb", "implicit", "onnxruntime", "numpy", "pydantic", "openai")
        return {
            "suite": self.suite.model_dump(mode="json", exclude={"data", "prompt_folder"}),
            "settings": self.base.model_dump(
                mode="json", exclude={"data", "api_key", "embed", "engine", "service", "shadow"}
            ),
            "domain": self.base.service.domain,
            "windows": {arm.name: self.settings(arm).rank.window for arm in self.arms},
            "data": {folder.name: data.sha for folder, data in self.data.items()},
            "prompts": prompts,
            "embedders": sorted({one.embeddings.name for one in self._services.values()}),
            "fitted": {name: weights.model_dump() for name, weights in self.base.fitted().items()},
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }

    def _notes(self) -> list[str]:
        """Returns a flag for each file of weights that was fitted on half of the people who are
        asked about: such weights flatter the arms that use them."""
        if not self.base.rank.fitted:
            return []
        notes, asked = [], {data.sha for data in self.data.values()}
        for file in sorted(self.base.weights_folder.glob("*.yaml")):
            record = yaml.safe_load(file.read_text()).get("found", {})
            if record.get("data", {}).get("sha") in asked:
                notes.append(
                    f"flag: {file.name} was fitted on half of these people: set rank.fitted to "
                    f"false, or use other cases"
                )
        return notes

    async def service(self, arm: Arm, shown: str | None = None) -> Service:
        """The service for an arm's settings, on a store that holds its data's log; made at
        first use. `shown`: the order in which the model sees the candidates."""
        settings = self.settings(arm, shown)
        key = repr(settings)
        async with self._making:  # of two made at once, one would never be closed
            if key not in self._services:
                self._services[key] = await self._make(settings)
                await fill(self._services[key], self.data[arm.data], settings.data)
        return self._services[key]

    def settings(self, arm: Arm, shown: str | None = None) -> Settings:
        """Returns the arm's settings with the store in the run's folder and everything else where
        it was; made once. `shown`: the order in which the model sees the candidates."""
        key = repr((arm, shown))
        if key not in self._settings:
            self._settings[key] = housed(
                arm.settings(self.base, shown), self.data[arm.data], self.out / "data"
            )
        return self._settings[key]

    def cases(self, arm: Arm) -> list[Case]:
        """The cases that the arm is asked about."""
        limits = [limit for limit in (self.limit, arm.max_cases) if limit is not None]
        return self.data[arm.data].cases[: min(limits, default=None)]

    def jobs(self) -> Iterator[RunJob]:
        """Yields jobs case by case over all arms, so that a run cut short still compares them; the
        probes last. Only arms that ask a model are repeated and probed."""
        for folder in self.suite.data:
            arms = [arm for arm in self.arms if arm.data == folder]
            asking = [arm for arm in arms if arm.model is not None]
            cases = self.data[folder].cases[: self.limit]
            for repeat in range(self.suite.repeats):
                for place, case in enumerate(cases):
                    for arm in arms if repeat == 0 else asking:
                        if arm.max_cases is None or place < arm.max_cases:
                            yield RunJob(arm, case, repeat)
            for case in cases[: self.suite.probes]:
                for arm in asking:
                    for probe in ("reversed", "own", "other"):
                        yield RunJob(arm, case, 0, probe)

    def request(self, job: RunJob, window: Sequence[str] | None = None) -> RecommendRequest:
        """Makes the request of a job. `window`: for the `own` and `other` probes, the candidates
        that both get."""
        case, user = job.case, job.case.user_id
        if job.probe == "other":
            others = self.data[job.arm.data].cases
            user = others[(others.index(case) + 1) % len(others)].user_id
        candidates = list(window) if window is not None else case.candidates
        settings = self.settings(job.arm)
        size = len(candidates) if candidates is not None else settings.retrieve.k
        fields = {
            "user_id": user,
            "instruction": case.instruction,
            "exclude": [] if window is not None else case.exclude,
            "candidates": candidates,
            "top_n": min(size, settings.limits.top_n),
            "deadline_ms": DEADLINE_MS,
        }
        return job.arm.request(fields, "none" if job.probe else self.suite.explain)

    async def go(
        self, step: Step = lambda progress: None, concurrency: int = 4, spend: float | None = None
    ) -> Progress:
        """Asks what has no row yet, `concurrency` at a time, and appends the rows. Once all rows
        cost `spend` dollars, no question that may cost something is begun; those under way end,
        free ones go on. Raises `BadRequest` for a model that can't be asked."""
        return await _Session(self, step, spend).go(concurrency)


class _Session:
    """Asks a run's jobs once through, and counts what that took."""

    def __init__(self, run: Run, step: Step, spend: float | None) -> None:
        self.run = run
        self.step = step
        self.spend = spend
        self.jobs = list(run.jobs())
        self.progress = Progress(total=len(self.jobs))
        self._cases = {
            (folder.name, case.case_id): case
            for folder, data in run.data.items()
            for case in data.cases
        }

    async def go(self, concurrency: int) -> Progress:
        file = self.run.out / "rows.jsonl"
        mend(file)
        kept = set()
        for row in rows(self.run.out):
            kept.add(row.key)
            self._count(row)
        wanted = json.dumps({"rankings": len(self.jobs)})
        (self.run.out / "wanted.json").write_text(wanted + "\n")
        remaining = [job for job in self.jobs if job.key not in kept]
        await self._wake([job for job in remaining if self._affordable(job)])
        queue = iter(remaining)
        with locked(file) as lines:

            async def worker() -> None:
                for job in queue:
                    if self._affordable(job):
                        row = await self._ask(job)
                        append(lines, row)
                        self._count(row)
                    else:
                        self.progress.unpaid += 1
                    self.step(self.progress)

            self.step(self.progress)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(concurrency):
                        tasks.create_task(worker())
            except* WhyrankError as group:
                raise group.exceptions[0] from None
        return self.progress

    def _count(self, row: RunRow) -> None:
        self.progress.add(row)
        if not row.probe:
            relevant = self._cases[row.data, row.case].relevant
            headline = metric(self.run.suite.metrics[0])
            self.progress.score(row.arm, headline.of(row.items, relevant))

    def _affordable(self, job: RunJob) -> bool:
        unspent = self.spend is None or self.progress.cost < self.spend
        return unspent or not self._may_cost(job.arm)

    def _may_cost(self, arm: Arm) -> bool:
        """Returns whether asking the arm may cost money: its model, or one that may stand in for
        it, has a price or is asked through LiteLLM, which knows prices itself. No other model can
        stand in for one that tells likelihoods."""
        if arm.model is None:
            return False
        settings = self.run.settings(arm)
        aliases: list[str | None] = [arm.model]
        if arm.strategy != "likelihood" or self.run.suite.explain != "none":
            aliases += [settings.roles.explain, *settings.fallback]
        models = [
            settings.models[alias]
            for alias in aliases
            if alias is not None and alias in settings.models
        ]
        return any(model.price is not None or model.backend == "litellm" for model in models)

    async def _wake(self, jobs: Sequence[RunJob]) -> None:
        """Wakes the models that `jobs` need. Raises `BadRequest` for a model that does not answer
        or lacks what its strategy needs: hours of answers by the prior would be no evaluation."""
        arms = {(job.arm.model, job.arm.strategy): job.arm for job in jobs}
        for (alias, strategy), arm in arms.items():
            if alias is None:
                continue
            service = await self.run.service(arm)
            if why := await service.models.why_unusable(alias, 300):
                raise BadRequest(
                    f"model {alias} can't be evaluated: {why}; 'whyrank engine' starts the "
                    f"local one"
                )
            able = await service.models.probe(alias)
            doable = service.recommender.doable(able)
            if strategy != "prior" and strategy not in doable:
                can = ", ".join(doable) or "none"
                raise BadRequest(
                    f"model {alias} can't do what strategy {strategy} needs; strategies for it: "
                    f"{can}"
                )

    async def _ask(self, job: RunJob) -> RunRow:
        """Asks a job and returns its row, also if the job fails. Raises `BadRequest` when the model
        has gone (hours of answers by the prior would be no evaluation), and `StorageError`."""
        service = await self.run.service(job.arm, SHOWN[job.probe])
        window = await self._neutral_window(job) if job.probe in {"own", "other"} else None
        request, call = self.run.request(job, window), CallContext(exchanges=[])
        start = time.perf_counter()
        try:
            ranking = await service.recommender.recommend(request, call)
        except StorageError:
            raise  # no fault of the case: what can't be read now would fail all that follow
        except WhyrankError as error:
            seconds = time.perf_counter() - start
            reason = f"{error.code}: {error.message}"
            return row_of(job, Attempt(seconds=seconds, error=reason, usage=call.usage))
        seconds = time.perf_counter() - start
        attempt = Attempt(ranking, call.exchanges or (), seconds)
        unreachable = ranking.degraded is not None and ranking.degraded.reason == "unreachable"
        if unreachable and job.arm.model is not None:
            why = await service.models.why_unusable(job.arm.model, 60)
            if why:
                raise BadRequest(
                    f"{job.arm.model} went away: {why}; start it and run again: what is done is "
                    f"kept"
                )
        return row_of(job, attempt, service.settings.explain.top)

    async def _neutral_window(self, job: RunJob) -> list[str]:
        """The candidates that the model sees for the case itself, in the prior's order."""
        service = await self.run.service(job.arm, SHOWN[job.probe])
        request = self.run.request(RunJob(job.arm, job.case)).model_copy(
            update={"strategy": "prior", "explain": "none"}
        )
        ranking = await service.recommender.recommend(request)
        return [item.item_id for item in ranking.items[: service.settings.rank.window]]


def now() -> str:
    """The time to the second, in UTC, as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
