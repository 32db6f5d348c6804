"""Runs a suite through the service's own pipeline. Rows are kept as they come; a killed run goes on
where it stopped."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.metadata
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, TextIO

import yaml
from pydantic import ValidationError

from eval.cases import Case, Data
from eval.metrics import metric
from eval.suite import Arm, Suite, fingerprint
from service.config import Settings
from service.errors import BadRequest, StorageError, WhyrankError, reasons
from service.pipeline import NEEDS, Exchange, Recommender
from service.schema import Ranked, Ranking, RecommendRequest, Usage

Make = Callable[[Settings], Awaitable[Recommender]]
Step = Callable[["Progress"], None]
BATCH = 2_000
DEADLINE_MS = 600_000
"""A case may take long: what is measured is quality, and time beside it, not what a deadline leaves
of it."""
LEAK_CASES = 50


@dataclass(frozen=True)
class Job:
    """One question. `probe`: "" for the case itself, `reversed`, or `own` and `other` (the same
    candidates in one neutral order, for the case's user and for another)."""

    arm: Arm
    case: Case
    repeat: int = 0
    probe: str = ""

    @property
    def key(self) -> tuple[str, str, int, str]:
        return self.arm.name, self.case.case_id, self.repeat, self.probe


@dataclass
class Progress:
    """What a run has done. `cost`: dollars, kept rows included; `unpaid`: questions that were not
    asked for want of money; `running`: the mean of the first metric by arm, over this session's and
    kept rows."""

    total: int
    done: int = 0
    unpaid: int = 0
    cost: float = 0.0
    tokens: int = 0
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def running(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.sums.items()}


class Run:
    """A folder with `manifest.json`, `rows.jsonl` and a store for each data folder. Made by `async
    with Run.open(…)`."""

    def __init__(
        self, suite: Suite, settings: Settings, out: Path, make: Make, limit: int | None
    ) -> None:
        self.suite = suite
        self.out = out
        self.base = (
            settings
            if suite.domain is None
            else settings.changed({"service": {"domain": suite.domain}})
        )
        self.arms = suite.arms(self.base)
        self.data = {folder: Data.read(folder) for folder in suite.data}
        self.limit = limit
        self._make = make
        self._made: dict[str, Recommender] = {}
        self._settings: dict[str, Settings] = {}
        self._by_id = {
            (folder.name, case.case_id): case
            for folder, data in self.data.items()
            for case in data.cases
        }

    @classmethod
    @asynccontextmanager
    async def open(
        cls, suite: Suite, settings: Settings, out: Path, make: Make, limit: int | None = None
    ) -> AsyncIterator[Run]:
        """Checks everything that can be checked without a model. Raises `BadRequest`, `ConfigError`
        or `PromptError`."""
        run = cls(suite, settings, out, make, limit)
        try:
            await run._check()
            yield run
        finally:
            for recommender in run._made.values():
                await recommender.close()

    async def _check(self) -> None:
        names = {arm.name for arm in self.arms}
        if not any(self.suite.baseline in {name, name.partition(" ")[0]} for name in names):
            raise BadRequest(
                f"baseline {self.suite.baseline!r} is no arm; arms: {', '.join(sorted(names))}"
            )
        for data in self.data.values():
            data.audit()
        for arm in self.arms:
            recommender = await self.recommender(arm)
            for case in self._cases(arm):
                try:
                    request = self.request(Job(arm, case))
                except ValidationError as error:
                    raise BadRequest(
                        f"{arm.data / 'cases.jsonl'}: case {case.case_id}: {reasons(error)}"
                    ) from error
            await recommender.preview(request, arm.task)
        self._manifest()

    def _manifest(self) -> None:
        """Written at the first run; a later one in the same folder must have the same, or the rows
        would not compare."""
        file = self.out / "manifest.json"
        made = self.manifest()
        here = {
            "folders": [str(folder.resolve()) for folder in self.suite.data],
            "notes": self._notes(),
            "begun_at": now(),
        }
        if file.exists():
            kept = json.loads(file.read_text())
            if changed := [
                key for key in made if json.loads(json.dumps(made[key])) != kept.get(key)
            ]:
                raise BadRequest(
                    f"{self.out} holds a run with another {', '.join(changed)}: choose another "
                    f"--out"
                )
        else:
            self.out.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({**made, **here}, indent=2) + "\n")

    def manifest(self) -> dict[str, Any]:
        """Versions, hashes and settings: what a repetition needs."""
        prompts = {
            prompt.ref.id: prompt.ref.sha
            for made in self._made.values()
            for prompt in made.prompts()
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
            "fitted": {name: weights.model_dump() for name, weights in self.base.fitted().items()},
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }

    def _notes(self) -> list[str]:
        """Weights that were fitted on half of the very people who are asked about flatter whoever
        uses them."""
        notes = []
        for file in (
            sorted(self.base.weights_folder.glob("*.yaml")) if self.base.rank.fitted else ()
        ):
            fitted_on = yaml.safe_load(file.read_text()).get("found", {}).get("data", {}).get("sha")
            if fitted_on in {data.sha for data in self.data.values()}:
                notes.append(
                    f"flag: {file.name} was fitted on half of these people: set rank.fitted to "
                    f"false, or use other cases"
                )
        return notes

    async def recommender(self, arm: Arm, shown: str | None = None) -> Recommender:
        """The recommender for an arm's settings, on a store that holds its data's log; made at
        first use."""
        settings = self.settings(arm, shown)
        if (key := repr(settings)) not in self._made:
            self._made[key] = await self._make(settings)
            await fill(self._made[key], self.data[arm.data], settings.data)
        return self._made[key]

    def settings(self, arm: Arm, shown: str | None = None) -> Settings:
        """The arm's settings, with the store in the run's folder and everything else where it was;
        made once."""
        if (key := repr((arm, shown))) not in self._settings:
            self._settings[key] = housed(
                arm.settings(self.base, shown), self.data[arm.data], self.out / "data"
            )
        return self._settings[key]

    def _cases(self, arm: Arm) -> list[Case]:
        limits = [limit for limit in (self.limit, arm.most) if limit is not None]
        return self.data[arm.data].cases[: min(limits, default=None)]

    def jobs(self) -> Iterator[Job]:
        """Case by case over all arms, so that a run cut short still compares them; the probes
        last."""
        for folder in self.suite.data:
            arms = [arm for arm in self.arms if arm.data == folder]
            asked = [arm for arm in arms if arm.model is not None]
            for repeat in range(self.suite.repeats):
                for place, case in enumerate(self.data[folder].cases[: self.limit]):
                    these = [
                        arm
                        for arm in (arms if repeat == 0 else asked)
                        if arm.most is None or place < arm.most
                    ]
                    yield from (Job(arm, case, repeat) for arm in these)
            for case in self.data[folder].cases[: self.limit][: self.suite.probes]:
                yield from (
                    Job(arm, case, 0, probe)
                    for arm in asked
                    for probe in ("reversed", "own", "other")
                )

    def request(self, job: Job, window: Sequence[str] | None = None) -> RecommendRequest:
        """`window`: for the `own` and `other` probes, the candidates that both get."""
        case, user = job.case, job.case.user_id
        if job.probe == "other":
            others = self.data[job.arm.data].cases
            user = others[(others.index(case) + 1) % len(others)].user_id
        given = list(window) if window is not None else case.candidates
        settings = self.settings(job.arm)
        size = len(given) if given is not None else settings.retrieve.k
        fields = {
            "user_id": user,
            "instruction": case.instruction,
            "exclude": [] if window is not None else case.exclude,
            "candidates": given,
            "top_n": min(size, settings.limits.top_n),
            "deadline_ms": DEADLINE_MS,
        }
        return job.arm.request(fields, "none" if job.probe else self.suite.explain)

    async def ask(self, job: Job) -> dict[str, Any]:
        """One row. A case that fails is a row too. Raises `BadRequest` when the model has gone:
        hours of answers by the prior would be no evaluation."""
        shown = {"": None, "reversed": "reversed"}.get(job.probe, "shuffled")
        recommender = await self.recommender(job.arm, shown)
        window = None
        if job.probe in {"own", "other"}:
            prior = self.request(Job(job.arm, job.case)).model_copy(
                update={"strategy": "prior", "explain": "none"}
            )
            plain = await recommender.recommend(prior)
            window = [item.item_id for item in plain.items[: recommender.settings.rank.window]]
        request, bill = self.request(job, window), list[Usage]()
        start = time.perf_counter()
        try:
            ranking, exchanges = await recommender.trace(request, bill)
        except (
            StorageError
        ):  # no fault of the case: what can't be read now would fail all that follow
            raise
        except WhyrankError as error:
            seconds = time.perf_counter() - start
            return row_of(
                job,
                error=f"{error.code}: {error.message}",
                seconds=seconds,
                usage=sum(bill, Usage()),
            )
        seconds = time.perf_counter() - start
        gone = ranking.degraded is not None and ranking.degraded.reason == "unreachable"
        if (
            gone
            and job.arm.model is not None
            and (why := await recommender.wrong(job.arm.model, 60))
        ):
            raise BadRequest(
                f"{job.arm.model} went away: {why}; start it and run again: what is done is kept"
            )
        return row_of(job, ranking, exchanges, seconds, recommender.settings.explain.top)

    async def go(
        self, step: Step = lambda progress: None, concurrency: int = 4, spend: float | None = None
    ) -> Progress:
        """Ask what has no row yet, `concurrency` at a time, and append the rows. Once all rows cost
        `spend` dollars, no question that may cost something is begun; those under way end, free
        ones go on."""
        jobs = list(self.jobs())
        progress = Progress(total=len(jobs))
        _mend(self.out / "rows.jsonl")
        kept = set()
        for row in rows(self.out):
            kept.add(_key(row))
            self._count(progress, row)
        (self.out / "wanted.json").write_text(json.dumps({"rankings": len(jobs)}) + "\n")
        left = [job for job in jobs if job.key not in kept]
        await self._models_answer([job for job in left if self._affordable(job, progress, spend)])
        todo = iter(left)
        with _alone(self.out / "rows.jsonl") as out:

            async def worker() -> None:
                for job in todo:
                    if not self._affordable(job, progress, spend):
                        progress.unpaid += 1
                        step(progress)
                        continue
                    row = await self.ask(job)
                    _append(out, row)
                    self._count(progress, row)
                    step(progress)

            step(progress)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(concurrency):
                        tasks.create_task(worker())
            except* WhyrankError as group:
                raise group.exceptions[0] from None
        return progress

    def _affordable(self, job: Job, progress: Progress, spend: float | None) -> bool:
        return spend is None or progress.cost < spend or not self._may_cost(job.arm)

    def _may_cost(self, arm: Arm) -> bool:
        """Has its model a price, or one that may stand in? LiteLLM knows prices itself; likelihoods
        nobody else tells."""
        settings = self.settings(arm)
        others = arm.strategy != "likelihood" or self.suite.explain != "none"
        aliases = [arm.model, *([settings.roles.explain, *settings.fallback] if others else [])]
        asked = [settings.models[alias] for alias in aliases if alias in settings.models]
        return arm.model is not None and any(
            one.price is not None or one.backend == "litellm" for one in asked
        )

    async def _models_answer(self, jobs: Sequence[Job]) -> None:
        """Hours of answers from the prior, because the engine was not up or a model lacks what it
        would need, would be no evaluation."""
        wanted = {
            (job.arm.model, job.arm.strategy): job.arm for job in jobs if job.arm.model is not None
        }
        for (alias, strategy), arm in wanted.items():
            recommender = await self.recommender(arm)
            if why := await recommender.wrong(alias, 300):
                raise BadRequest(
                    f"model {alias} can't be evaluated: {why}; 'whyrank engine' starts the "
                    f"local one"
                )
            able = await recommender.probe(alias)
            if strategy in NEEDS and not NEEDS[strategy](able):
                can = ", ".join(name for name, enough in NEEDS.items() if enough(able)) or "none"
                raise BadRequest(
                    f"model {alias} can't do what strategy {strategy} needs; strategies for it: "
                    f"{can}"
                )

    def _count(self, progress: Progress, row: dict[str, Any]) -> None:
        progress.done += 1
        progress.cost += row["cost"] or 0.0
        progress.tokens += sum(row["tokens"])
        if not row["probe"]:
            case = self._by_id[row["data"], row["case"]]
            value = metric(self.suite.metrics[0]).of(row["items"], case.relevant)
            total, count = progress.sums.get(row["arm"], (0.0, 0))
            progress.sums[row["arm"]] = total + value, count + 1

    async def leaks(self) -> dict[str, str]:
        """Arms whose prompt names the answers before the candidates do, and how often. Sends
        nothing; writes `leaks.json`, which reports read.

        A prompt may name any title by chance (the next film of a series): flagged is who names
        answers more often than other candidates, by Fisher's exact test at 0.001.
        """
        from eval.stats import fisher

        found = {}
        for arm in (
            arm for arm in self.arms if arm.model is not None and arm.strategy != "likelihood"
        ):
            recommender = await self.recommender(arm)
            titles = {item.id: item.title.casefold() for item in self.data[arm.data].items}
            named = of = others = of_others = 0
            for case in self._cases(arm)[:LEAK_CASES]:
                shown = await recommender.preview(self.request(Job(arm, case)), "rank")
                text = _before_the_candidates(
                    "\n".join(message["content"] for message in shown.messages)
                ).casefold()
                answers = set(case.relevant)
                free = sorted(titles.keys() - answers - set(case.history))
                rest = Random(case.case_id).sample(free, min(100, len(free)))
                named += sum(_names(text, titles.get(item, "")) for item in answers)
                of += len(answers)
                others += sum(_names(text, titles[item]) for item in rest)
                of_others += len(rest)
            if named and fisher(named, of, others, of_others) < 0.001:
                found[arm.name] = (
                    f"its prompt names {named} of {of} answers, and {others} of {of_others} "
                    f"other items"
                )
        (self.out / "leaks.json").write_text(json.dumps(found) + "\n")
        return found


def _names(text: str, title: str) -> bool:
    return len(title) > 3 and title in text


def _before_the_candidates(text: str) -> str:
    """A candidate's line begins with its letter; what stands there is no leak."""
    return "\n".join(
        line for line in text.splitlines() if not (line[1:2] == ")" and line[:1].isupper())
    )


def now() -> str:
    """The time to the second, in UTC, as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def housed(settings: Settings, data: Data, under: Path) -> Settings:
    """The settings with a store for this data in a folder under `under`, and everything else where
    it was; no shadow."""
    return settings.changed(
        {
            "store": {"url": None},
            "data": str(under / f"{data.folder.name}-{fingerprint(settings)}-{data.sha[:8]}"),
            "embed": {"path": str(settings.embedder_path.resolve())},
            "models": {
                alias: {"path": str(settings.weights_path(alias).resolve())}
                for alias in settings.models
            },
            "rank": {"weights": str(settings.weights_folder.resolve())},
            "shadow": {"model": None},
        }
    )


async def fill(recommender: Recommender, data: Data, folder: Path) -> None:
    """With the log of a case folder, once; `folder`: where its store is."""
    stamp = folder / ".filled"
    if stamp.exists():
        return
    for put, nouns in (
        (recommender.ingest_items, data.items),
        (recommender.ingest_users, data.users),
        (recommender.ingest_events, data.events),
    ):
        for start in range(0, len(nouns), BATCH):
            report = await put(
                [noun.model_dump(mode="python") for noun in nouns[start : start + BATCH]]
            )
            if report.rejected:
                raise BadRequest(f"{data.folder}: {report.rejected[0].message}")
    await recommender.embed_pending()
    await recommender.train()
    stamp.touch()


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────


def row_of(
    job: Job,
    ranking: Ranking | None = None,
    exchanges: Sequence[Exchange] = (),
    seconds: float = 0.0,
    explained: int = 0,
    error: str = "",
    usage: Usage | None = None,
) -> dict[str, Any]:
    """`window`: what the model saw, in prior order; `order`: the same in the model's own order,
    before fusion; `prior_values` and `model_values`: what was fused, as `window` stands;
    `likelihoods`: with and without history, where that was the model's value; `grounded`: of the
    first `explained`, which a model may justify. `usage`: of a question without a ranking."""
    items = ranking.items if ranking else []
    seen = sorted((item for item in items if "model" in item.signals), key=_prior_order)
    usage = ranking.usage if ranking else usage
    repairs = ranking.repairs if ranking else None
    said = [
        item.signals["grounded"]
        for item in items[:explained]
        if "grounded" in item.signals and job.arm.model
    ]
    return {
        "arm": job.arm.name,
        "data": job.arm.data.name,
        "case": job.case.case_id,
        "repeat": job.repeat,
        "probe": job.probe,
        "items": [item.item_id for item in items],
        "scores": [item.score for item in items],
        "window": [item.item_id for item in seen],
        "order": [
            item.item_id
            for item in sorted(seen, key=lambda item: (-item.signals["model"], *_prior_order(item)))
        ],
        "prior_values": [item.signals["prior"] for item in seen],
        "model_values": [item.signals["model"] for item in seen],
        "likelihoods": [
            [item.signals["likelihood"], item.signals["null"]]
            for item in seen
            if "null" in item.signals
        ],
        "strategy": ranking.strategy if ranking else None,
        "model": ranking.model if ranking else None,
        "prompt": ranking.prompt.model_dump() if ranking and ranking.prompt else None,
        "degraded": ranking.degraded.model_dump(by_alias=True)
        if ranking and ranking.degraded
        else None,
        "repairs": repairs.missing + repairs.duplicate + repairs.unknown if repairs else 0,
        "grounded": sum(map(bool, said)) / len(said) if said else None,
        "tokens": [usage.prompt_tokens, usage.completion_tokens] if usage else [0, 0],
        "cost": usage.cost if usage else None,
        "seconds": round(seconds, 4),
        "asked": [asked_sha(exchange.messages) for exchange in exchanges],
        "said": [exchange.answer for exchange in exchanges],
        "error": error,
    }


def _prior_order(item: Ranked) -> tuple[float, str]:
    return -item.signals["prior"], item.item_id


def asked_sha(messages: Sequence[dict[str, str]]) -> str:
    return sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:12]


def _key(row: dict[str, Any]) -> tuple[str, str, int, str]:
    return row["arm"], row["case"], row["repeat"], row["probe"]


def _append(out: TextIO, row: dict[str, Any]) -> None:
    out.write(json.dumps(row, ensure_ascii=False) + "\n")
    out.flush()


def rows(out: Path) -> Iterator[dict[str, Any]]:
    """The whole rows of a run; a last line that is still being written, or was torn by a kill, is
    none."""
    file = out / "rows.jsonl"
    if file.exists():
        with file.open("rb") as lines:
            yield from (json.loads(line) for line in lines if line.endswith(b"\n"))


def _mend(file: Path) -> None:
    """Takes a torn last line away, so that its case is asked again."""
    if file.exists():
        with _alone(file):
            content = file.read_bytes()
            os.truncate(file, content.rfind(b"\n") + 1)


@contextmanager
def _alone(file: Path) -> Iterator[TextIO]:
    """The file, to append to, for one process at a time: two that run the same suite would pay
    twice."""
    with file.open("a", encoding="utf-8") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadRequest(
                f"another run is writing to {file}: let it end, or choose another --out"
            ) from error
        yield out
