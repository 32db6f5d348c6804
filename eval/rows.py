"""Rows of a run: what is asked, what came of it, and the file that keeps it, a line a question."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from eval.cases import Case
from eval.suite import Arm
from service.context import Exchange
from service.errors import BadRequest
from service.schema import Ranked, Ranking, Usage

JobKey = tuple[str, str, int, str]
"""Arm, case, repeat, probe: what tells a job from all others of its run."""


@dataclass(frozen=True)
class RunJob:
    """One question: an arm ranks for a case.

    `probe`: "" for the case itself; `reversed`: the model sees the candidates in reverse; `own` and
    `other`: it sees the same candidates in one neutral order, for the case's user and for another.
    """

    arm: Arm
    case: Case
    repeat: int = 0
    probe: str = ""

    @property
    def key(self) -> JobKey:
        return self.arm.name, self.case.case_id, self.repeat, self.probe


@dataclass(frozen=True)
class Attempt:
    """What came of asking a job once. Without a `ranking` it failed: `error` says why, `usage` what
    was used up all the same."""

    ranking: Ranking | None = None
    exchanges: Sequence[Exchange] = ()
    seconds: float = 0.0
    error: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class RunRow:
    """A line of `rows.jsonl`, whose keys are these fields: a job and what came of it.

    `items`: the ids as served, best first; `scores`: theirs. `window`: the items that the model
    saw, in the prior's order; `order`: the same in the model's own order, before fusion.
    `prior_values`, `model_values`: what was fused, item by item as in `window`. `likelihoods`: a
    title's with and without the history, where the model's values come from these. `repairs`: how
    often the model's answer was mended. `grounded`: the share of reasons that passed the check.
    `tokens`: read and written; `cost`: US dollars, None without a price. `asked`: a hash of each
    prompt; `said`: the model's answer to each. `error`: why there is no ranking.
    """

    arm: str
    data: str
    case: str
    repeat: int = 0
    probe: str = ""
    items: Sequence[str] = ()
    scores: Sequence[float] = ()
    window: Sequence[str] = ()
    order: Sequence[str] = ()
    prior_values: Sequence[float] = ()
    model_values: Sequence[float] = ()
    likelihoods: Sequence[Sequence[float]] = ()
    strategy: str | None = None
    model: str | None = None
    prompt: Mapping[str, Any] | None = None
    degraded: Mapping[str, Any] | None = None
    repairs: int = 0
    grounded: float | None = None
    tokens: Sequence[int] = (0, 0)
    cost: float | None = None
    seconds: float = 0.0
    asked: Sequence[str] = ()
    said: Sequence[str] = ()
    error: str = ""

    @property
    def key(self) -> JobKey:
        return self.arm, self.case, self.repeat, self.probe

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELDS}

    def behind(self, first: Sequence[str]) -> list[str]:
        """Returns the ids in `first`, followed by all others in the order of `items`."""
        named = set(first)
        return [*first, *(item for item in self.items if item not in named)]


FIELDS = tuple(field.name for field in fields(RunRow))


def row_of(job: RunJob, attempt: Attempt, explained: int = 0) -> RunRow:
    """Makes the row of a job. `explained`: for how many of the first items a model may write
    reasons; only these count for `grounded`."""
    ranking = attempt.ranking
    usage = ranking.usage if ranking else attempt.usage
    row = RunRow(
        arm=job.arm.name,
        data=job.arm.data.name,
        case=job.case.case_id,
        repeat=job.repeat,
        probe=job.probe,
        tokens=(usage.prompt_tokens, usage.completion_tokens),
        cost=usage.cost,
        seconds=round(attempt.seconds, 4),
        asked=[prompt_sha(exchange.messages) for exchange in attempt.exchanges],
        said=[exchange.answer for exchange in attempt.exchanges],
        error=attempt.error,
    )
    if ranking is None:
        return row
    seen = sorted((item for item in ranking.items if "model" in item.signals), key=_prior_order)
    ordered = sorted(seen, key=lambda item: (-item.signals["model"], *_prior_order(item)))
    likely = [item.signals for item in seen if "null" in item.signals]
    repairs, degraded = ranking.repairs, ranking.degraded
    return replace(
        row,
        items=[item.item_id for item in ranking.items],
        scores=[item.score for item in ranking.items],
        window=[item.item_id for item in seen],
        order=[item.item_id for item in ordered],
        prior_values=[item.signals["prior"] for item in seen],
        model_values=[item.signals["model"] for item in seen],
        likelihoods=[[signals["likelihood"], signals["null"]] for signals in likely],
        strategy=ranking.strategy,
        model=ranking.model,
        prompt=ranking.prompt.model_dump() if ranking.prompt else None,
        degraded=degraded.model_dump(by_alias=True) if degraded else None,
        repairs=repairs.missing + repairs.duplicate + repairs.unknown,
        grounded=_grounded_share(ranking.items[:explained]) if job.arm.model else None,
    )


def _prior_order(item: Ranked) -> tuple[float, str]:
    return -item.signals["prior"], item.item_id


def _grounded_share(items: Sequence[Ranked]) -> float | None:
    """The share of checked reasons that passed; None where no reason was checked."""
    checked = [bool(item.signals["grounded"]) for item in items if "grounded" in item.signals]
    return sum(checked) / len(checked) if checked else None


def prompt_sha(messages: Sequence[dict[str, str]]) -> str:
    return sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:12]


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


def rows(out: Path) -> Iterator[RunRow]:
    """Reads the rows in a run's folder, if it has any. Leaves out a last line without its end
    (still being written, or torn by a kill) and keys that are no field."""
    file = out / "rows.jsonl"
    if file.exists():
        with file.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    values = json.loads(line)
                    yield RunRow(**{name: values[name] for name in FIELDS if name in values})


def append(file: TextIO, row: RunRow) -> None:
    file.write(json.dumps(row.as_dict(), ensure_ascii=False) + "\n")
    file.flush()


def mend(file: Path) -> None:
    """Cuts a torn last line off, so that its job is asked again."""
    if file.exists():
        with locked(file):
            content = file.read_bytes()
            os.truncate(file, content.rfind(b"\n") + 1)


@contextmanager
def locked(file: Path) -> Iterator[TextIO]:
    """Opens the file for appending by this process alone, and yields it: two processes that run the
    same suite would pay twice. Raises `BadRequest` if another process has it."""
    with file.open("a", encoding="utf-8") as lines:
        try:
            fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadRequest(
                f"another run is writing to {file}: let it end, or choose another --out"
            ) from error
        yield lines
