import asyncio
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

from service import __version__
from service.cli import app
from service.config import HOUSE
from tests.conftest import FILMS, MODELS
from tests.fake_openai import FakeOpenAI


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WHYRANK_CONFIG", str(HOUSE / "configs" / "test.yaml"))
    monkeypatch.setenv(
        "WHYRANK_MODELS__TINY__BASE_URL", "http://127.0.0.1:9/v1"
    )  # nobody's, whoever serves on the usual one


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def feed(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_files_of_every_format_become_a_recommendation(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(film) for film in FILMS[:4])
    assert "4 accepted" in run("ingest", "items", str(feed(tmp_path, "films.jsonl", lines))).output
    csv = (
        "id,title,year,genre\nnotting,Notting "
        "Hill,1999,Comedy|Romance\namelie,Amélie,2001,Comedy|Romance\n"
    )
    assert "2 accepted" in run("ingest", "items", str(feed(tmp_path, "films.csv", csv))).output
    rows = [
        {
            "user_id": "u",
            "item_id": "alien",
            "type": "rating",
            "value": 5.0,
            "occurred_at": 1_700_000_000_000,
        }
    ]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    assert "1 accepted" in run("ingest", "events", str(tmp_path / "events.parquet")).output
    answer = run("recommend", "u", "--strategy", "prior", "--json")
    ranking = json.loads(answer.output)
    assert {item["item_id"] for item in ranking["items"]} == {
        "thing",
        "shining",
        "solaris",
        "notting",
        "amelie",
    }
    table = run("recommend", "u", "--strategy", "prior")
    assert table.exit_code == 0
    assert "The Thing" in table.output


def test_bad_lines_are_reported_kept_and_stop_nothing(tmp_path: Path) -> None:
    file = feed(
        tmp_path,
        "users.jsonl",
        '{"user_id": "a"}\nnot json\n{"user_id": ".."}\n[1]\n{"user_id": "b"}\n',
    )
    answer = run("ingest", "users", str(file))
    assert answer.exit_code == 0
    assert "2 accepted" in answer.output
    kept = [
        json.loads(line)
        for line in (tmp_path / "users.jsonl.rejected.jsonl").read_text().splitlines()
    ]
    assert [row["line"] for row in kept] == [2, 3, 4]
    strict = run("ingest", "users", str(file), "--strict")
    assert strict.exit_code == 1


def lines(*rows: Mapping[str, object]) -> str:
    return "\n".join(map(json.dumps, rows))


def test_dumps_of_other_systems_are_taken(tmp_path: Path) -> None:
    gorse = feed(
        tmp_path,
        "gorse.jsonl",
        lines({"ItemId": "alien", "Comment": "Alien"}, {"ItemId": ".."}, {"ItemId": "heat"}),
    )
    answer = run("ingest", "items", str(gorse), "--format", "gorse").output
    assert "2 accepted, 1 rejected" in answer
    assert json.loads((tmp_path / "gorse.jsonl.rejected.jsonl").read_text())["line"] == 2
    click = {
        "event": "interaction",
        "id": "c",
        "timestamp": "1706702400000",
        "user": "u",
        "type": "like",
        "item": "alien",
    }
    shown = {**click, "event": "ranking", "id": "r", "items": [{"id": "alien"}, {"id": "heat"}]}
    mixed = feed(
        tmp_path,
        "metarank.jsonl",
        lines({"event": "user", "user": "u"}, shown, click, {"event": "item"}),
    )
    assert (
        "3 accepted, 2 without events skipped"
        in run("ingest", "events", str(mixed), "--format", "metarank").output
    )
    assert (
        "1 accepted, 3 without users skipped"
        in run("ingest", "users", str(mixed), "--format", "metarank").output
    )
    put = {
        "sessionId": "s",
        "userId": "u",
        "eventList": [{"eventType": "Play", "sentAt": 1706702400, "itemId": "heat"}] * 2,
    }
    output = run(
        "ingest", "events", str(feed(tmp_path, "put.jsonl", lines(put))), "--format", "personalize"
    ).output
    assert "1 accepted, 1 duplicates" in output


def test_what_was_noticed_of_a_file_is_said_once_with_how_often(tmp_path: Path) -> None:
    rows = [
        {"user_id": "u", "item_id": f"i{n}", "type": "purchse", "occurred_at": 1_700_000_000_000}
        for n in range(2_500)
    ]
    output = run("ingest", "events", str(feed(tmp_path, "log.jsonl", lines(*rows)))).output
    assert "2500 accepted" in output
    assert output.count("means nothing here") == 1
    assert (
        "did you mean 'purchase'? If not, say what it means in the configuration "
        "(events.types.purchse) (2,500 rows)" in output
    )
    shown = {
        "event": "ranking",
        "id": "r",
        "timestamp": "1706702400000",
        "items": [{"id": "alien"}],
    }
    nobody = run(
        "ingest",
        "events",
        str(feed(tmp_path, "mr.jsonl", lines(shown, shown))),
        "--format",
        "metarank",
    ).output
    assert "0 accepted, 2 without events skipped" in nobody
    assert (
        "a ranking without a user or session is skipped: nobody is known to have seen it (2 rows)"
        in nobody
    )


def test_an_id_with_a_slash_is_taken_from_files_and_asked_for(tmp_path: Path) -> None:
    items = [{"id": f"https://shop.example/p/{n}?x=1#y", "title": f"Thing {n}"} for n in range(3)]
    run("ingest", "items", str(feed(tmp_path, "things.jsonl", lines(*items))))
    event = {"user_id": "a/b", "item_id": items[0]["id"], "type": "purchase"}
    assert (
        "1 accepted"
        in run("ingest", "events", str(feed(tmp_path, "log.jsonl", lines(event)))).output
    )
    ranking = json.loads(run("recommend", "a/b", "--strategy", "prior", "--json").stdout)
    assert {row["item_id"] for row in ranking["items"]} == {items[1]["id"], items[2]["id"]}
    assert ranking["state_version"] == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("ingest", "items", "ghost.jsonl"), 2, "no such file"),
        (("recommend", "u", "--strategy", "magic"), 2, "first_token, listwise"),
        (("ingest", "items", "ghost.jsonl", "--format", "gorse"), 2, "no such file"),
        (("ingest", "items", "ghost.jsonl", "--format", "xml"), 2, "metarank"),
        (("recommend", ".."), 2, "may not be"),
        (("models", "pull", "huge"), 1, "known: tiny"),
        (("--config", "ghost.yaml", "doctor"), 1, "can't be read"),
        (("data", "netflix"), 2, "movielens-100k"),
        (("engine", "no-such-command"), 2, "no-such-command"),
        (("keys", "create", "k"), 2, "--scope"),
        (("keys", "create", "k", "--scope", "root"), 2, "'root' is not one of"),
        (("keys", "create", "..", "--scope", "read"), 2, "may not be"),
        (("keys", "create", "k", "--scope", "read", "--rate", "0"), 2, "rate"),
        (("keys", "create", "k", "--scope", "read", "--expires", "soon"), 2, "as 30d"),
        (("keys", "create", "k", "--scope", "read", "--expires", "0d"), 2, "not in the future"),
        (
            ("keys", "create", "k", "--scope", "read", "--expires", "2020-01-01T00:00:00Z"),
            2,
            "not in the future",
        ),
        (("keys", "revoke", "ghost"), 2, "no key 'ghost'"),
    ],
)
def test_a_mistake_is_told_in_words(words: tuple[str, ...], code: int, message: str) -> None:
    answer = run(*words)
    assert answer.exit_code == code
    assert message in answer.output
    assert "Traceback" not in answer.output


def test_serving_others_without_any_key_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WHYRANK_SERVICE__HOST", "0.0.0.0")  # noqa: S104  that is the point
    answer = run("serve")
    assert answer.exit_code == 1
    assert "'whyrank keys create'" in " ".join(answer.output.split())


def test_the_doctor_says_what_is_wrong_and_what_to_do() -> None:
    answer = run("doctor")
    assert answer.exit_code == 1
    assert "whyrank up" in " ".join(answer.output.split())


async def test_the_doctor_ends_with_0_where_all_is_well(
    serve: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "WHYRANK_MODELS__TINY__BASE_URL", f"{await serve(FakeOpenAI('ranks').app)}/v1"
    )
    monkeypatch.setenv("WHYRANK_MODELS__TINY__PATH", str(MODELS / "tiny"))
    answer = await asyncio.to_thread(run, "doctor")
    assert answer.exit_code == 0, answer.output


async def test_the_doctor_looks_at_models_that_stand_in(
    serve: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "WHYRANK_MODELS__TINY__BASE_URL", f"{await serve(FakeOpenAI('ranks').app)}/v1"
    )
    monkeypatch.setenv("WHYRANK_MODELS__TINY__PATH", str(MODELS / "tiny"))
    monkeypatch.setenv(
        "WHYRANK_MODELS__OTHER",
        '{"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}',
    )
    monkeypatch.setenv("WHYRANK_FALLBACK", '["other"]')
    answer = await asyncio.to_thread(run, "doctor")
    assert answer.exit_code == 1
    assert "model:fallback[0]" in answer.output


@pytest.mark.parametrize(
    "words", [("--version",), ("--config", "ghost.yaml", "--version", "doctor")]
)
def test_the_version_is_told_whatever_else_is_asked(words: tuple[str, ...]) -> None:
    answer = run(*words)
    assert (answer.exit_code, answer.output) == (0, f"whyrank {__version__}\n")


def test_prompts_are_listed_and_previewed_without_a_model(tmp_path: Path) -> None:
    assert "movies/rank" in run("prompts", "list").output
    run(
        "ingest",
        "items",
        str(feed(tmp_path, "films.jsonl", "\n".join(json.dumps(film) for film in FILMS))),
    )
    assert 'A) "' in run("prompts", "preview", "u").output


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked() -> None:
    made = run(
        "keys",
        "create",
        "shop",
        "--scope",
        "write",
        "--scope",
        "read",
        "--rate",
        "60",
        "--expires",
        "30d",
    )
    secret = made.stdout.strip()
    assert re.fullmatch(r"wr-[0-9a-f]{12}-[0-9a-f]{64}", secret)
    assert run("keys", "create", "shop", "--scope", "read").exit_code == 2
    until = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    listed = run("keys", "list").output
    assert [
        text for text in ("shop", "write read", "60", until, "valid") if text not in listed
    ] == []
    assert secret.split("-")[2] not in listed
    assert "revoked" in run("keys", "revoke", "shop").output
    assert "revoked" in run("keys", "list").output
    assert run("keys", "revoke", "shop").exit_code == 0


HELP = [
    *(
        "",
        "data",
        "ingest",
        "recommend",
        "models",
        "models probe",
        "serve",
        "up",
        "doctor",
        "demo",
        "engine",
    ),
    *("eval", "eval run", "eval cases", "fit", "compare", "keys", "keys create"),
]


@pytest.mark.parametrize("words", HELP)
def test_help_teaches(words: str) -> None:
    answer = run(*words.split(), "--help")
    assert answer.exit_code == 0
    assert len(answer.output) > 200
