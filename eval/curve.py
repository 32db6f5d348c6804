"""Measures how good the order is after so many known events: nDCG@10 by length of history.

The people who are asked about are strangers: the log that the sources learn from holds none of
their events. Then the events on the last item that each person liked come in, then those on the
item before it, and so on. The answers are the case's; the whole history is excluded at every step,
so that all steps order the same items."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval import stats
from eval.cases import Case, Data
from eval.lists import protocol_of
from eval.metrics import metric
from eval.run import DEADLINE_MS
from eval.store import Make, fill, housed
from eval.strangers import Strangers
from eval.suite import Arm, Suite
from service.build import Service
from service.config import Settings
from service.errors import BadRequest
from service.schema import RecommendRequest

STEPS = (0, 1, 2, 3, 5, 8, 13, 20)
"""The numbers of known events to measure at; numbers above `CurveTarget.events` are left out."""
AT_ONCE = 4
ABOUT = (
    "# How much is known after so many events?\n\n"
    "nDCG@10 × 100 of the prior, without a model, for people of whom the service knows the last "
    "0, 1, 2 … things that they liked, and whose log the sources never saw; what is asked for came "
    "later, and stays the same at every step. Repeat it with `make bench-history`.\n"
)
HEADLINE = metric("nDCG@10")


@dataclass(frozen=True)
class CurveStep:
    """Quality after `events` known events. `ndcg`: mean nDCG@10 over the people; `popular`: the
    difference of `ndcg` to that of popularity; `before`: its difference to the step before, None at
    the first step."""

    events: int
    ndcg: float
    popular: stats.Paired
    before: stats.Paired | None


@dataclass(frozen=True)
class Curve:
    """The curve of one case folder. `data`: the name of the data that its cases were made from;
    `people`: how many people were asked about at each step."""

    data: str
    people: int
    steps: Sequence[CurveStep]


@dataclass(frozen=True)
class CurveTarget:
    """What to measure: at most `people` of the suite's first case folder who liked at least
    `events` items, after 0 to `events` of them."""

    suite: Suite
    people: int = 200
    events: int = STEPS[-1]


async def measure_curve(
    target: CurveTarget, settings: Settings, out: Path, make: Make, tell: Callable[[str], None]
) -> Curve:
    """Measures the curve with the suite's `prior` and `popular` arms, in stores below `out`. `tell`
    takes a line of text after each step. Raises `BadRequest` if no case has a history of
    `target.events` items."""
    suite = target.suite
    if suite.domain is not None:
        settings = settings.changed({"service": {"domain": suite.domain}})
    data = Data.read(suite.data[0])
    data.audit()
    cases = [case for case in data.cases if len(case.history) >= target.events][: target.people]
    data = replace(data, cases=cases)
    if not cases:
        raise BadRequest(
            f"{data.folder}: nobody liked {target.events} items before their case: "
            f"--events asks for fewer"
        )
    shutil.rmtree(out / "stores", ignore_errors=True)  # the strangers of an earlier run
    curve = await _values(target, settings, data, out, make, tell)
    steps, before = list[CurveStep](), None
    for events, (values, popular) in curve.items():
        versus = stats.paired(values, before) if before is not None else None
        steps.append(
            CurveStep(events, float(np.mean(values)), stats.paired(values, popular), versus)
        )
        before = values
    name = Path(protocol_of(data.folder).get("data", data.folder)).name
    return Curve(name, len(cases), steps)


async def _values(
    target: CurveTarget,
    settings: Settings,
    data: Data,
    out: Path,
    make: Make,
    tell: Callable[[str], None],
) -> dict[int, tuple[list[float], list[float]]]:
    """Returns by number of known events two lists with nDCG@10 of each case: that of the prior, and
    that of popularity."""
    strangers = Strangers(data)
    home = housed(_arm(target.suite, settings, "prior").settings(settings), data, out / "stores")
    best_sellers = _arm(target.suite, settings, "popular").settings(settings)
    async with AsyncExitStack() as stack:
        service = await make(home)
        stack.push_async_callback(service.close)
        await fill(service, strangers.others, home.data)
        popular = await make(housed(best_sellers, data, out / "stores"))
        stack.push_async_callback(popular.close)
        curve = {}
        for step in (step for step in STEPS if step <= target.events):
            await service.ingest.events(strangers.events(step))
            cases = strangers.cases
            curve[step] = await _asked(service, cases), await _asked(popular, cases)
            tell(f"after {step} events: {100 * float(np.mean(curve[step][0])):.2f}")
    return curve


def _arm(suite: Suite, settings: Settings, name: str) -> Arm:
    """The suite's first arm of this name: there is one for each of its settings."""
    return next(arm for arm in suite.arms(settings) if arm.name.split()[0] == name)


async def _asked(service: Service, cases: Sequence[Case]) -> list[float]:
    """Has `service` rank for each case; returns nDCG@10 of each, in the order of the cases."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(case: Case) -> float:
        request = RecommendRequest(
            user_id=case.user_id,
            exclude=case.exclude,
            candidates=case.candidates,
            top_n=10,
            strategy="prior",
            explain="none",
            deadline_ms=DEADLINE_MS,
        )
        async with slots:
            ranking = await service.recommender.recommend(request)
        ids = [item.item_id for item in ranking.items]
        return HEADLINE.of(ids, frozenset(case.relevant))

    return await asyncio.gather(*map(ask, cases))


def curve_page(curves: Sequence[Curve]) -> str:
    """The curves as a page of Markdown."""
    parts = [ABOUT]
    for curve in curves:
        parts += [
            f"## {curve.data}: {curve.people} people",
            "",
            "| events | nDCG@10 | less popularity (95 %) | less the step before (95 %) |",
            "|---:|---:|---:|---:|",
            *(
                f"| {step.events} | {100 * step.ndcg:.2f} | {step.popular} | {step.before or '–'} |"
                for step in curve.steps
            ),
            "",
        ]
    return "\n".join(parts)
