"""Wishes are made of a catalogue's own facets and judged by attributes; relevance by judgements."""

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eval.judgements import JudgedQuery, Relevance, measure_relevance, read
from eval.wishes import KINDS, LANGUAGES, Cases, WishesTarget, cases_of, measure_wishes, wordings
from eval.wishes_report import page
from service.cli import app
from service.config import Settings
from service.errors import BadRequest
from service.samples.shop import products
from service.schema import Item
from tests.conftest import Make

FIVE = ("Horror", "Comedy", "War", "Western", "Drama")
MANY = [
    {
        "id": f"f{n}",
        "title": f"Film number {n}",
        "attributes": {
            "year": 1960 + n % 45,
            "genre": [name for k, name in enumerate(FIVE) if (n + k) % 3 == 0],
        },
    }
    for n in range(300)
]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_language_has_wordings_of_every_kind(language: str, held_out: bool) -> None:
    told = wordings(language, held_out=held_out)
    assert {*KINDS} - {"mood"} == {*told["wordings"]}
    assert all(told["wordings"].values())
    assert told["moods"]
    names = told["names"]
    assert all({*name} == {"want", "no"} for name in names.values())


def test_cases_have_values_that_enough_items_meet() -> None:
    items = [Item.model_validate(film) for film in MANY]
    cases = Cases(items, ["genre"], "year", None).of("de")
    counts = Counter(case.kind for case in cases)
    assert {"wanted", "avoided", "both", "neither", "not_decade", "before", "like"} <= {*counts}
    assert "under" not in counts, "there are no prices"
    for case in cases:
        assert sum(map(case.meets, items)) >= 25 or case.kind == "mood"
        assert "{" not in case.text


async def test_the_services_own_reading_is_measured(make: Make) -> None:
    service = await make(films=MANY)
    steps: list[tuple[int, int]] = []
    target = WishesTarget(("en", "zh"), limit=40, concurrency=4)
    answers = await measure_wishes(service, target, lambda *step: steps.append(step))
    assert steps[-1] == (80, 80)
    known = [one for one in answers if not one.case.held_out and one.case.kind != "mood"]
    assert sum(one.satisfied for one in known) / len(known) > 0.9
    assert sum(one.violations > 0 for one in known) / len(known) < 0.05
    assert {one.source for one in answers} == {"rules"}
    text = page(answers, None)
    assert "| known | en |" in text
    assert "| held out | zh |" in text


async def test_a_catalogue_without_facets_has_no_wishes(make: Make) -> None:
    service = await make(films=[])
    with pytest.raises(BadRequest, match=r"catalog\.filterable"):
        await cases_of(service, WishesTarget())


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--language", "tlh"], "there are wordings in"), (["--model", "gpt-9"], "no model 'gpt-9'")],
)
def test_careless_input_is_told(words: list[str], told: str, settings: Settings) -> None:
    ran = CliRunner().invoke(app, ["eval", "wishes", *words])
    assert ran.exit_code == 2
    assert told in " ".join(ran.output.split())


def test_judgements_name_what_there_is() -> None:
    queries = read("queries")
    assert Counter(query["language"] for query in queries) == dict.fromkeys(
        ("en", "zh", "de", "ja"), 35
    )
    assert all({*query["relevant"], *query["partly"]} <= {*products()} for query in queries)
    polyglot = read("polyglot")
    language = {item["id"]: item["language"] for item in polyglot["items"]}
    assert len(language) == 200
    assert all(language[query["target"]] != query["language"] for query in polyglot["queries"])


async def test_relevance_is_measured_and_good(settings: Settings, tmp_path: Path) -> None:
    measured = await measure_relevance(settings, tmp_path / "data", 12, lambda _: None)
    values = [one.ndcg for one in measured.queries if one.ndcg is not None]
    assert sum(values) / len(values) > 0.6
    assert measured.error < 0.1
    assert sum(hit for *_, hit in measured.found) >= 6


def test_calibration_is_told_apart_from_its_lack() -> None:
    sure = JudgedQuery("en", [0.95, 0.05], [1.0, 0.0], held_out=True)
    wrong = JudgedQuery("en", [0.95, 0.05], [0.0, 1.0], held_out=True)
    good, bad = Relevance([sure], []), Relevance([wrong], [])
    assert good.error == pytest.approx(0.05)
    assert bad.error == pytest.approx(0.95)
    assert good.brier_gains()[0] > 0 > bad.brier_gains()[0]


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    file = tmp_path / "relevance.md"
    ran = CliRunner().invoke(app, ["eval", "relevance", "--limit", "8", "--out", str(file)])
    assert ran.exit_code == 0, ran.output
    assert "expected calibration error" in file.read_text()
