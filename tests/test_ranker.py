"""A ranker learns what is planted, serves what it learned, and is promoted only if that is
better."""

import asyncio
import json
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from eval import learners, lists, ranker
from eval.cases import Data
from eval.learners import Kind
from eval.protocols import Options, make
from eval.ranker import FoundRanker, RankerTarget, fit_ranker, is_better
from eval.stats import Paired
from service.build import build
from service.cli import app
from service.config import MEANINGS, History, RankerHistory, RankerRecord, Settings
from service.embed import MultilingualEmbedder
from service.errors import BadRequest, ConfigError
from service.jobs.learning import RankerLearning
from service.schema import RecommendRequest
from service.telemetry import Telemetry
from tests.conftest import FILMS

PEOPLE, ITEMS, LIKES = 40, 80, 15
Folder = Path


@pytest.fixture
def cases(tmp_path: Path) -> Folder:
    """Everybody likes what has about the year that they like, which no source knows of; titles and
    the likes of others say little."""
    dice = random.Random(0)
    items = [
        {"id": f"i{n:02}", "title": f"Item {dice.randrange(9)}", "attributes": {"year": 1900 + n}}
        for n in range(ITEMS)
    ]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    events = []
    for n in range(PEOPLE):
        middle = dice.randrange(10, ITEMS - 10)
        near = sorted(range(ITEMS), key=lambda item: abs(item - middle) + dice.random() * 12)
        for place, item in enumerate(dice.sample(near[: LIKES + 3], LIKES)):
            at = start + timedelta(days=place, minutes=n)
            events.append(
                {"user_id": f"u{n}", "item_id": f"i{item:02}", "type": "like", "occurred_at": at}
            )
    log = tmp_path / "log"
    log.mkdir()
    for name, rows in (("items", items), ("events", events)):
        lines = (json.dumps(row, default=str) + "\n" for row in rows)
        (log / f"{name}.jsonl").write_text("".join(lines))
    options = Options(MEANINGS, share=0.3)
    make(Data.read(log), "temporal", tmp_path / "cases", options)
    return tmp_path / "cases"


@pytest.fixture
def own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with years to filter by; few lists and ways to learn are enough."""
    monkeypatch.setattr(learners, "RIDGES", (100.0,))
    monkeypatch.setattr(lists, "KNOWN_LIKES", (1, 6))
    monkeypatch.setattr(ranker, "FEWEST", 20)
    monkeypatch.setattr(lists, "LISTS", PEOPLE)
    return settings.changed({"catalog": {"filterable": {"year": "int"}}})


async def learned(
    cases: Folder, settings: Settings, out: Path, kind: Kind = "linear"
) -> dict[History, FoundRanker]:
    """By kind of history."""
    maker = partial(build, llms={}, scorers={})
    target = RankerTarget(cases, kind)
    found = await fit_ranker(target, settings, out, maker, lambda line: None)
    return {each.record.history: each for each in found}


async def test_what_is_planted_is_learned_promoted_and_served(
    cases: Folder, own: Settings, tmp_path: Path
) -> None:
    by_history = await learned(cases, own, tmp_path / "fit")
    assert [*by_history] == ["few", "some"]  # nobody has liked more
    found = by_history["some"]
    assert found.versus.low > 0
    assert found.record.promoted
    weights = dict(zip(found.record.features, found.record.weights, strict=True))
    assert max(weights, key=lambda name: weights[name]) in {"gap.year", "gap_latest.year"}
    history = RankerHistory(own.rankers_folder / own.service.domain)
    assert found.number in history.serving

    service = await build(own, llms={}, scorers={})
    try:
        data = Data.read(cases)
        await service.ingest.items([item.model_dump() for item in data.items])
        await service.ingest.embed_pending()
        await service.ingest.events([event.model_dump() for event in data.events])
        for case in data.cases[:5]:
            request = RecommendRequest(
                user_id=case.user_id, strategy="prior", explain="full", top_n=50
            )
            items = (await service.recommender.recommend(request)).items
            rows = np.array(
                [
                    [
                        item.signals.get(f"feature.{name}", item.signals.get(name, 0.0))
                        for name in found.record.features
                    ]
                    for item in items
                ]
            )
            spread = rows.std(axis=0)
            scores = (
                (rows - rows.mean(axis=0))
                / np.where(spread < 1e-9, 1, spread)
                @ [*weights.values()]
            )
            assert (np.diff(scores) <= 1e-6).all()  # the list is in the order that was learned
    finally:
        await service.close()

    again = await learned(cases, own, tmp_path / "again")
    assert not again["some"].record.promoted  # as good as what serves is not better
    assert found.number in history.serving
    assert len(history.all()) == 4


@pytest.mark.parametrize(
    ("difference", "low", "plain", "refreshed"),
    [(0.02, 0.01, True, True), (0.01, -0.01, False, True), (-0.01, -0.02, False, False)],
)
def test_a_ranker_must_be_better_or_for_a_refresh_as_good(
    difference: float, low: float, plain: bool, refreshed: bool
) -> None:
    versus = Paired(difference, low, difference + 0.02, 0.5, 0.01, 100)
    assert is_better(versus, refresh=False) is plain
    assert is_better(versus, refresh=True) is refreshed


@pytest.mark.parametrize("kind", ["trees", "both"])
def test_trees_are_learned_by_the_command_and_serve(
    cases: Folder, own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(learners.TREES, "min_data_in_leaf", 10)
    monkeypatch.setattr(lists, "LISTS", 3 * PEOPLE)
    monkeypatch.setattr(learners, "ROUNDS", 60)
    words = [str(cases), "--out", str(tmp_path / "fit"), "--ranker", kind]
    result = typed(own, tmp_path, monkeypatch, *words)
    assert result.exit_code == 0, result.output
    assert "serves" in result.output
    serving = own.rankers()[own.service.domain]["some"]
    assert (serving.kind, bool(serving.weights)) == (kind, kind == "both")
    assert serving.found["learned"] > serving.found["served"]


async def test_the_services_own_log_is_learned_from_as_time_went(
    cases: Folder, own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data.read(cases.parent / "log")
    service = await build(own, llms={}, scorers={})
    await service.ingest.items([item.model_dump() for item in data.items])
    await service.ingest.embed_pending()
    await service.ingest.events([event.model_dump() for event in data.events])
    await service.close()
    result = await asyncio.to_thread(
        typed, own, tmp_path, monkeypatch, "--out", f"{tmp_path / 'fit'}", "--ranker", "linear"
    )
    assert result.exit_code == 0, result.output
    found = own.rankers()[own.service.domain]["some"]
    assert found.found["protocol"] == "global-time"
    assert found.found["learned"] > found.found["served"]


async def test_the_schedule_runs_the_command_and_says_what_it_said(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"rank": {"training": {"every_h": 1}}}
    file = configured(settings.changed(training), tmp_path)
    learning = RankerLearning(Settings.load(file), Telemetry())
    begun = asyncio.create_task(learning.run())
    said = ""
    async with asyncio.timeout(60):
        while "ranker_not_learned" not in said:
            await asyncio.sleep(0.05)
            said += capsys.readouterr().err
    assert "nothing to learn from" in said
    begun.cancel()
    with suppress(asyncio.CancelledError):
        await begun
    again = asyncio.create_task(RankerLearning(Settings.load(file), Telemetry()).run())
    await asyncio.sleep(0.1)
    assert "ranker_not_learned" not in capsys.readouterr().err  # it is not due yet
    again.cancel()


def configured(settings: Settings, folder: Path) -> Path:
    """A file of these settings."""
    parts = settings.model_dump(mode="json", include={"data", "embed", "catalog", "service"})
    parts["rank"] = {"training": settings.rank.training.model_dump()}
    (folder / "config.yaml").write_text(yaml.safe_dump(parts))
    return folder / "config.yaml"


def typed(settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    """What `whyrank fit` with these words ended with."""
    monkeypatch.setenv("WHYRANK_CONFIG", str(configured(settings, folder)))
    return CliRunner().invoke(app, ["fit", *words])


async def test_too_few_lists_and_cases_that_cannot_be_cut_are_refused(
    cases: Folder, own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker, "FEWEST", 10_000)
    with pytest.raises(BadRequest, match=r"\d+ lists hold something .* a ranker needs 10000"):
        await learned(cases, own, tmp_path / "fit")
    about = json.loads((cases / "protocol.json").read_text())
    (cases / "protocol.json").write_text(json.dumps({**about, "protocol": "given"}))
    with pytest.raises(BadRequest, match="can't be cut again"):
        await learned(cases, own, tmp_path / "fit")
    assert not own.rankers()


def record(name: str = "votes", **fields: object) -> RankerRecord:
    plain = {
        "kind": "linear",
        "embedder": "other",
        "features": (name,),
        "weights": (1.0,),
        "at": "2026-01-01T00:00:00",
        "promoted": True,
        "why": "because",
    }
    return RankerRecord.model_validate({**plain, **fields})


async def test_a_ranker_of_another_embedder_is_left_out(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    RankerHistory(settings.rankers_folder / settings.service.domain).add(record())
    service = await build(settings, llms={}, scorers={})
    await service.close()
    assert "ranker_left_out" in capsys.readouterr().err


def test_history_is_shown_and_a_rollback_is_one_command(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*words: str) -> str:
        return " ".join(typed(settings, tmp_path, monkeypatch, *words).output.split())

    assert "no ranker was learned yet" in said("--history")
    assert "no ranker serves" in said("--rollback")
    history = RankerHistory(settings.rankers_folder / settings.service.domain)
    for promoted in (True, False, True):
        history.add(record(promoted=promoted))
    shown = said("--history")
    assert (shown.count("serves"), shown.count("refused"), shown.count("promoted")) == (1, 1, 1)
    history.add(record(history="few"))
    assert [*history.serving] == [3, 4]  # one for each kind of history
    assert "ranker 4 was taken back; now serve: 3" in said("--rollback")
    assert "ranker 3 was taken back; now serve: 1" in said("--rollback")
    assert "ranker 1 was taken back; now serve: none, but the prior" in said("--rollback")
    assert not history.serving
    assert "which cases" in said()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0001.json", "{"),
        ("0001.json", '{"kind": "linear", "embedder": "e", "features": ["a"], "weights": []}'),
        ("serving", "seven"),
        ("serving", "7"),
    ],
)
def test_a_ranker_that_cannot_be_read_is_named(settings: Settings, name: str, text: str) -> None:
    history = RankerHistory(settings.rankers_folder / "movies")
    history.add(record())
    (history.folder / name).write_text(text)
    with pytest.raises(ConfigError, match=name if text != "7" else "0007"):
        settings.rankers()
    if text != "seven":  # that error asks for a number in the file
        history.roll_back()
        assert settings.rankers() == {}  # the cure that the error names


@pytest.mark.parametrize(("history", "turned"), [("few", True), ("many", False)])
async def test_a_ranker_orders_for_its_own_kind_of_history_alone(
    settings: Settings, history: History, turned: bool
) -> None:
    """One that turns the prior around, for somebody with a single like."""

    async def order() -> list[str]:
        service = await build(settings, llms={}, scorers={})
        try:
            await service.ingest.items(FILMS)
            await service.ingest.embed_pending()
            await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
            request = RecommendRequest(user_id="u", strategy="prior", explain="none")
            return [item.item_id for item in (await service.recommender.recommend(request)).items]
        finally:
            await service.close()

    plain = await order()
    rankers = RankerHistory(settings.rankers_folder / settings.service.domain)
    name = MultilingualEmbedder().name
    rankers.add(record("prior", history=history, weights=(-1.0,), embedder=name))
    assert await order() == (plain[::-1] if turned else plain)
    assert len({*plain}) == len(plain) > 2
