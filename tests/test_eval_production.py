"""A log whose winner is known: what people take is what the shadow puts first."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eval import report as reports
from eval.leaderboard import notes, verdict
from eval.production import SHOWN, production
from eval.publish import write
from service.build import Service, build
from service.cli import app
from service.config import HOUSE, Settings
from service.errors import BadRequest
from service.llm import ModelAdapter
from service.schema import Ranking, RecommendRequest
from tests.conftest import FILMS, backwards
from tests.scripted import ScriptedLLM
from tests.test_shadow import forwards, shadowed

IDS = [str(film["id"]) for film in FILMS]
DAY = timedelta(hours=24)
PEOPLE = 12


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Service]:
    """`tiny` shows the prior backwards, `far` would show it forwards; nobody has liked anything
    yet."""
    tiny = settings.models["tiny"].model_dump()
    models = {"tiny": {**tiny, "weight": 0.9}, "far": {**tiny, "weight": 1.0}}
    shadow = {"model": "far", "share": 1, "strategy": "listwise", "waiting": 100}
    llms: dict[str, ModelAdapter] = {
        "tiny": ScriptedLLM(backwards, alias="tiny"),
        "far": ScriptedLLM(forwards, alias="far"),
    }
    service = await build(settings.changed({"models": models, "shadow": shadow}), llms=llms)
    await service.ingest.items(FILMS)
    await service.ingest.embed_pending()
    yield service
    await service.close()


async def show(service: Service, user: str, **fields: Any) -> Ranking:
    asked = {"user_id": user, "candidates": IDS, "top_n": 5, "explain": "none", **fields}
    return await service.recommender.recommend(RecommendRequest.model_validate(asked))


async def take(
    service: Service,
    user: str | None,
    item: str,
    after: timedelta = timedelta(),
    **fields: Any,
) -> None:
    event = {
        "user_id": user,
        "item_id": item,
        "type": "like",
        "occurred_at": datetime.now(UTC) + after,
        **fields,
    }
    assert (await service.ingest.events([event])).rejected == []


async def test_the_planted_winner_is_found_and_the_loser_too(shop: Service, tmp_path: Path) -> None:
    dice = random.Random(0)
    for n in range(PEOPLE):
        ranking = await show(shop, f"u{n}")
        await shadowed(shop)
        last = ranking.items[
            -dice.choice((1, 1, 2))
        ].item_id  # shown last, which the shadow would have shown first
        await take(shop, f"u{n}", last, ranking_id=ranking.ranking_id)
    told = await production(shop, tmp_path / "run", DAY)
    assert (told["cases"], told["people"], told["relevant_per_case"]) == (PEOPLE, PEOPLE, 1.0)
    report = reports.report(tmp_path / "run")
    shadow = report.line("shadow:far")
    assert shadow.versus is not None
    assert (shadow.baseline, shadow.versus.cases, report.line(SHOWN).versus) == (
        SHOWN,
        PEOPLE,
        None,
    )
    assert shadow.versus.low > 0.2
    assert "shadow:far is better than shown" in verdict(report, shadow)
    assert any("position bias" in note for note in notes(report))
    assert {(one.name, one.value) for one in report.slices} == {
        ("domain", "movies"),
        ("shown by", "listwise:tiny"),
        ("shadow by", "listwise:far"),
    }
    for n in range(PEOPLE):  # now the other way round
        ranking = await show(shop, f"v{n}")
        await shadowed(shop)
        await take(shop, f"v{n}", ranking.items[0].item_id)
    since = max(one.shown_at for one in await shop.records.shadowed(0, PEOPLE)) + timedelta(
        microseconds=1
    )
    await production(shop, tmp_path / "other", DAY, since)
    worse = reports.report(tmp_path / "other").line("shadow:far")
    assert worse.versus is not None
    assert (worse.versus.cases, worse.versus.high < 0) == (PEOPLE, True)


async def test_only_what_was_shown_counts_and_the_right_likes_of_it(
    shop: Service, tmp_path: Path
) -> None:
    shown = {
        user: await show(shop, user)
        for user in ("named", "late", "early", "other", "viewed", "unseen", "plain")
    }
    await shadowed(shop)
    first = {user: ranking.items[0].item_id for user, ranking in shown.items()}
    hidden = next(one for one in IDS if one not in {item.item_id for item in shown["unseen"].items})
    kept = await shop.records.shadowed(0, 99)
    begun = {
        one.who: one.shown_at - timedelta(milliseconds=one.shown.timings.total_ms) for one in kept
    }
    soon = begun["named"] + timedelta(microseconds=1)
    await take(
        shop, "named", first["named"], ranking_id=shown["named"].ranking_id, occurred_at=soon
    )
    await take(shop, "late", first["late"], timedelta(minutes=4))
    await take(shop, "early", first["early"], -timedelta(minutes=1))
    await take(shop, "other", first["other"], ranking_id="rk-of-another-time")
    await take(shop, "viewed", first["viewed"], type="view")
    await take(shop, "viewed", first["viewed"], type="dislike")
    await take(shop, "unseen", hidden)
    await take(shop, "plain", first["plain"])
    await take(shop, "plain", first["plain"], type="purchase")
    await production(shop, tmp_path / "run", timedelta(minutes=3))
    found = [
        json.loads(line)
        for line in (tmp_path / "run" / "cases" / "cases.jsonl").read_text().splitlines()
    ]
    assert {one["case_id"].partition(":")[0] for one in found} == {
        shown[who].ranking_id for who in ("named", "plain")
    }
    assert [one["relevant"] for one in found] == [[first["named"]], [first["plain"]]]
    await production(shop, tmp_path / "views", timedelta(minutes=3), least=0.2)
    assert len((tmp_path / "views" / "cases" / "cases.jsonl").read_text().splitlines()) == 3


async def test_a_person_is_one_case_and_is_named_nowhere(shop: Service, tmp_path: Path) -> None:
    for _ in range(3):
        ranking = await show(shop, "somebody-with-a-name")
        await take(shop, "somebody-with-a-name", ranking.items[1].item_id)
    visit = await show(shop, "", user_id=None, session_id="secret-session")
    await take(shop, None, visit.items[0].item_id, session_id="secret-session")
    await shadowed(shop)
    told = await production(shop, tmp_path / "run", DAY)
    assert told["cases"] == 2
    assert told["notes"][:2] == [
        "of 4 shadowed rankings 4 have a like within 24 h",
        "2 of them left out: one a person, the last",
    ]
    report = reports.report(tmp_path / "run")
    write(report, tmp_path / "run")
    written = "".join(file.read_text() for file in (tmp_path / "run").rglob("*.*"))
    assert ranking.ranking_id in written
    assert "somebody-with-a-name" not in written
    assert "secret-session" not in written


async def test_a_shadow_that_failed_counts_as_the_prior_and_is_flagged(
    shop: Service, tmp_path: Path
) -> None:
    for n in range(6):
        ranking = await show(shop, f"u{n}")
        await take(shop, f"u{n}", ranking.items[0].item_id)
    await shadowed(shop)
    with shop._outside.store._engine.begin() as connection:
        gone = '{"from": "listwise:far", "to": "prior", "reason": "timeout"}'
        connection.exec_driver_sql(
            "UPDATE shadows SET ranking = json_set(ranking, '$.model', null, '$.strategy', "
            "'prior', '$.degraded', json(?))",
            (gone,),
        )
    await production(shop, tmp_path / "run", DAY)
    assert any(
        "shadow:far: 100% of its rankings were degraded" in note
        for note in notes(reports.report(tmp_path / "run"))
    )


async def test_where_there_is_nothing_to_learn_it_says_what_to_do_and_writes_nothing(
    shop: Service, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match=r"no ranking has a shadow yet: shadow\.model"):
        await production(shop, tmp_path / "run", DAY)
    await show(shop, "u")
    await shadowed(shop)
    with pytest.raises(BadRequest, match="none of 1 shadowed rankings has a like within 24 h"):
        await production(shop, tmp_path / "run", DAY)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    with pytest.raises(BadRequest, match="holds a run: choose another --out"):
        await production(shop, tmp_path / "run", DAY)
    assert (tmp_path / "run" / "manifest.json").read_text() == "{}"


def test_from_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("WHYRANK_DATA", str(settings.data))
    monkeypatch.setenv("WHYRANK_CONFIG", str(HOUSE / "configs" / "test.yaml"))

    def run(*words: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, ["eval", *words])
        assert "Traceback" not in found.output
        return found.exit_code, " ".join(found.output.split())

    code, told = run("production", "--out", str(tmp_path / "run"))
    assert (code, "no ranking has a shadow yet" in told) == (2, True)
    assert run("production", "--out", str(tmp_path / "run"), "--within", "-1")[0] == 2
    asyncio.run(_a_day(settings))
    code, told = run("production", "--out", str(tmp_path / "run"), "--days", "1")
    assert (code, "shadow:far" in told, "flattered" in told) == (0, True, True)
    assert run("report", str(tmp_path / "run"))[0] == 0
    assert "could see" in run("compare", str(tmp_path / "run"), "shadow:far", SHOWN)[1]
    code, told = run("production", "--out", str(tmp_path / "run"))
    assert (code, "choose another --out" in told) == (2, True)


async def _a_day(settings: Settings) -> None:
    models = {"far": settings.models["tiny"].model_dump()}
    changed = settings.changed({"models": models, "shadow": {"model": "far", "share": 1}})
    llms: dict[str, ModelAdapter] = {
        alias: ScriptedLLM(answer, alias=alias)
        for alias, answer in (("tiny", backwards), ("far", forwards))
    }
    service = await build(changed, llms=llms)
    await service.ingest.items(FILMS)
    for n in range(3):
        ranking = await show(service, f"u{n}")
        await take(service, f"u{n}", ranking.items[n].item_id)
    await shadowed(service)
    await service.close()
