"""Reasons are measured on the service's own data, and careless input is told how to go on."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from eval.leave_out import LeaveOut
from eval.reader import Statement
from eval.reasons import MeasuredReason, ReasonList, ReasonsTarget, measure_reasons
from eval.reasons_report import FIGURES, reasons_page
from eval.stats import proportion
from service.build import Service, build
from service.cli import app
from service.config import HOUSE, Settings
from service.errors import NotFound
from service.llm import Call
from service.schema import Ranked
from tests.conftest import FILMS, Make
from tests.scripted import ScriptedLLM

Run = Callable[..., str]
LIKES = {
    "ann": ("alien", "shining", "amelie"),
    "bo": ("alien", "thing", "heat"),
    "cy": ("notting", "sunrise", "amelie"),
}


async def liked(service: Service) -> None:
    events = [
        {"user_id": who, "item_id": film, "type": "rating", "value": 5}
        for who, films in LIKES.items()
        for film in films
    ]
    events.append({"user_id": "dee", "item_id": "heat", "type": "dislike"})
    await service.ingest.events(events)
    await service.jobs.trainer.train()


async def test_lists_of_those_who_liked_something_are_measured(make: Make) -> None:
    def lies(call: Call) -> str:
        return "A [f1] is about a zeppelin."

    llm = ScriptedLLM(lies, likely=lambda asked: -float(len(asked.context[0])), alias="tiny")
    service = await make(llm=llm)
    await liked(service)
    steps: list[tuple[int, int]] = []
    target = ReasonsTarget(people=9, top=3, likelihood="tiny")
    lists = await measure_reasons(service, target, lambda *step: steps.append(step))
    assert {(each.user_id, each.locale) for each in lists} == {
        (who, locale) for who in LIKES for locale in ("en", "zh")
    }, "Dee liked nothing"
    assert steps == [(done, 6) for done in range(7)]
    assert all(len(each.reasons) == 3 for each in lists)
    assert all(each.seconds > 0 and each.again > 0 for each in lists)
    assert all(len(each.likelier) == 6 for each in lists)
    with pytest.raises(NotFound, match="known: tiny"):
        await service.models.likelihoods("nobody", [("a", "b")])
    assert lists[0].history[-1].startswith('rated "')
    given = [one for each in lists for one in each.reasons]
    assert any(one.mattered is not None for one in given)
    assert all(one.statements is not None and len(one.specific) == 2 for one in given)
    assert [one.planted for one in given if one.statements and all(s.true for s in one.statements)]
    page = reasons_page(lists, target, "movies", samples=4)
    assert "## Reasons: movies, 3 people, the first 3" in page
    assert page.count(" → **") == 4
    assert all(f"| {name} | " in page for name in FIGURES)


async def test_evidence_that_an_item_rests_on_matters(make: Make) -> None:
    service = await make()
    await liked(service)
    ids = [str(film["id"]) for film in FILMS]
    likes = ["alien", "notting", "sunrise", "amelie"]
    leave_out = LeaveOut(service, likes, ids)
    assert await leave_out.mattered("thing", ["alien"], Random(0)) is True
    assert await leave_out.mattered("thing", ["amelie"], Random(0)) is False
    assert await leave_out.mattered("thing", [], Random(0)) is None
    assert await leave_out.mattered("thing", ["alien", "notting", "amelie"], Random(0)) is None


def measured(reason: str, *true: bool, title: str = "Alien") -> MeasuredReason:
    row = Ranked(rank=1, item_id="i", score=0.5, title=title, reason=reason)
    return MeasuredReason(row, [Statement("word", "space", one) for one in true], True, [1.0, 0.5])


def test_figures_count_reasons_statements_and_sentences() -> None:
    reasons = [measured('Like "A".', True, True), measured('Like "B".', True, False)]
    lists = [
        ReasonList("ann", "en", reasons, 2.0, 0.5, 120, degraded=True, history=[], likelier=[True])
    ]
    cells = {name: figure(lists) for name, figure in FIGURES.items()}
    assert cells["true statements"].startswith("3 of 4 = 75.0% (30.1%…95.4%)")
    assert cells["reasons without a false one"].startswith("1 of 2 = 50.0%")
    assert (cells["different in a list"], cells["… without titles"]) == ("2.00", "1.00")
    assert cells["specific"] == "75.0% of 4 pairs"
    assert (cells["tokens a list"], cells["degraded lists"]) == ("120", "1")
    assert cells["planted falsehoods found"] == "–"
    page = reasons_page(lists, ReasonsTarget(locales=["en"]), "movies", samples=0)
    assert "- Alien: Like \"B\". (false: word 'space')" in page


def test_a_proportion_has_wilsons_interval() -> None:
    assert proportion(8, 10) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert proportion(0, 0) == (0.0, 0.0, 1.0)


# ── careless input ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("WHYRANK_DATA", str(settings.data))
    monkeypatch.setenv("WHYRANK_CONFIG", str(HOUSE / "configs" / "test.yaml"))

    def command(*words: str) -> str:
        result = CliRunner().invoke(app, ["eval", "reasons", *words])
        return f"{result.exit_code}: " + " ".join(result.output.split())

    return command


async def fill(settings: Settings, *events: dict[str, str]) -> None:
    service = await build(settings, llms={})
    await service.ingest.items(FILMS)
    await service.ingest.events(list(events))
    await service.close()


def test_a_locale_of_another_form_is_refused(run: Run) -> None:
    said = run("--locale", "en_US!")
    assert said.startswith("2: ")
    assert "locale" in said


def test_without_data_it_is_said_what_to_ingest(run: Run, settings: Settings) -> None:
    assert "the catalogue is empty: 'whyrank ingest items FILE'" in run()
    asyncio.run(fill(settings))
    assert "nobody is known: 'whyrank ingest events FILE'" in run()
    asyncio.run(fill(settings, {"user_id": "dee", "item_id": "heat", "type": "dislike"}))
    assert "nobody in the log liked an item" in run()


def test_the_command_prints_a_table_and_writes_a_page(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    """As in: whyrank eval reasons --people 1"""
    events = [
        {"user_id": who, "item_id": film, "type": "like"}
        for who, films in LIKES.items()
        for film in films
    ]
    asyncio.run(fill(settings, *events))
    page = tmp_path / "docs" / "reasons.md"
    few = "--people", "1", "--top", "2", "--locale", "zh-CN", "--locale", "fr"
    said = run(*few, "--out", str(page))
    assert said.startswith("0: ")
    assert "true statements" in said
    assert re.search(r"\| true statements \| \d+ of \d+ = .* \| – \|", page.read_text())
