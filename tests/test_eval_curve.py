"""Each further event helps, or at least does not harm; and the answers are never known."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from eval.cases import Data
from eval.curve import CurveTarget, curve_page, measure_curve
from eval.protocols import Options, make
from eval.strangers import Strangers
from eval.suite import Suite
from service.build import build
from service.config import MEANINGS, Settings
from service.errors import BadRequest
from tests.test_eval_run import toy


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (toy(tmp_path / "toy") / "users.jsonl").unlink()  # what people declared tells all
    data = Data.read(tmp_path / "toy")
    make(data, "given", tmp_path / "cases", Options(MEANINGS))
    return Suite(data=[tmp_path / "cases"])


async def test_the_first_event_already_helps(
    suite: Suite, settings: Settings, tmp_path: Path
) -> None:
    told: list[str] = []
    maker = partial(build, llms={}, scorers={})
    target = CurveTarget(suite, people=24, events=3)
    curve = await measure_curve(target, settings, tmp_path / "out", maker, told.append)
    assert (curve.people, [step.events for step in curve.steps]) == (24, [0, 1, 2, 3])
    nothing, first, *later = curve.steps
    assert abs(nothing.popular.difference) < 0.1
    assert first.before is not None
    assert first.before.low > 0, "their taste is a genre, and the one event tells it"
    assert all(step.popular.low > 0 for step in later)
    assert all(step.before is not None and step.before.high > 0 for step in later)
    assert told[1].startswith("after 1 events: ")
    again = await measure_curve(target, settings, tmp_path / "out", maker, told.append)
    assert again == curve, "the strangers of the first run are gone"
    page = curve_page([curve])
    assert "## toy: 24 people" in page
    assert f"| 1 | {100 * first.ndcg:.2f} | {first.popular} | {first.before} |" in page


async def test_a_history_that_nobody_has_is_said(
    suite: Suite, settings: Settings, tmp_path: Path
) -> None:
    maker = partial(build, llms={}, scorers={})
    with pytest.raises(BadRequest, match="nobody liked 7 items"):
        await measure_curve(
            CurveTarget(suite, events=7), settings, tmp_path / "out", maker, lambda line: None
        )


def test_nothing_of_strangers_is_known_but_what_they_liked_last(suite: Suite) -> None:
    data = Data.read(suite.data[0])
    strangers = Strangers(replace(data, cases=data.cases[:3]))
    users = {case.user_id for case in data.cases[:3]}
    assert {event.user_id for event in strangers.others.events} == {
        event.user_id for event in data.events
    } - users
    assert strangers.events(0) == []
    last = {(case.user_id, case.history[-1]) for case in data.cases[:3]}
    assert {(event["user_id"], event["item_id"]) for event in strangers.events(1)} == last
    assert all({*case.history} <= {*case.exclude} for case in strangers.cases)
