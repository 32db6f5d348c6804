"""`whyrank eval` from a shell, on a suite that needs no model."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.config import HOUSE
from tests.conftest import FILMS
from tests.fake_openai import FakeOpenAI
from tests.test_eval_cases import busy, folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WHYRANK_CONFIG", str(HOUSE / "configs" / "test.yaml"))


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_from_a_log_to_a_leaderboard_and_into_a_case(tmp_path: Path) -> None:
    users = [
        {"user_id": f"u{n}", "attributes": {"side": "left" if n % 2 else "right"}}
        for n in range(20)
    ]
    folder(tmp_path / "log", busy(20), users=users)
    made = run(
        "eval",
        "cases",
        tmp_path / "log",
        "--out",
        tmp_path / "cases",
        "--protocol",
        "leave-last-out",
    )
    assert "20 cases" in made.output
    suite = tmp_path / "suite.yaml"
    suite.write_text("data: [cases]\nstrategies: [prior]\nsources: true\ntitle: Mine\n")
    ran = run("eval", "run", suite, "--out", tmp_path / "run", "--limit", "12")
    assert ran.exit_code == 0, ran.output
    assert "prior" in ran.output
    again = run("eval", "run", suite, "--out", tmp_path / "run", "--limit", "12")
    assert "120/120" in again.output.replace(" ", "")
    report = run(
        "eval",
        "report",
        tmp_path / "run",
        "--by",
        "side",
        "--markdown",
        tmp_path / "docs" / "mine.md",
    )
    assert "by side" in report.output
    assert (tmp_path / "docs" / "mine.md").read_text().startswith("# Mine")
    case = run("eval", "show", tmp_path / "run", _first_case(tmp_path), "--suite", suite)
    assert "known" in case.output
    assert case.exit_code == 0
    compared = run("eval", "compare", tmp_path / "run", "similar", "prior")
    assert "could see" in " ".join(compared.output.split())


def _first_case(path: Path) -> str:
    return str(json.loads((path / "run" / "rows.jsonl").read_text().splitlines()[0])["case"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("eval cases nowhere --out out", "no data folder"),
        ("eval cases movielens-100k --out out", "whyrank data movielens-100k"),
        ("eval cases log --out out --protocol magic", "magic"),
        ("eval run nowhere.yaml --out out", "can't be read"),
        ("eval report nowhere", "holds no run"),
        ("eval compare nowhere a b", "holds no run"),
        ("eval show nowhere 1 --suite nowhere.yaml", "can't be read"),
        ("fit nowhere --out out", "no data folder"),
        ("fit nowhere --out out --model ghost", "configured: tiny"),
        (
            "compare --user u --model tiny --model ghost",
            "no model 'ghost'; known: whyrank-prior, tiny",
        ),
        ("compare --user u --model tiny --model tiny,", "at least two models"),
        ("compare --user u", "--model"),
        ("compare --model whyrank-prior,tiny", "--user"),
        ("compare --model whyrank-prior,tiny --user u --suite u.txt", "--user"),
        ("compare --model whyrank-prior,tiny --user ghost", "no user 'ghost'"),
        ("compare --model whyrank-prior,tiny --user ..", "may not be"),
        ("compare --model whyrank-prior,tiny --user u --top-n 0", "--top-n"),
        ("compare --model whyrank-prior,tiny --suite nowhere.txt", "can't be read"),
        ("compare --model whyrank-prior,tiny --suite .", "no data folder"),
    ],
)
def test_a_mistake_is_told_in_words(words: str, told: str) -> None:
    answer = run(*words.split())
    assert answer.exit_code == 2
    assert told in " ".join(answer.output.split())
    assert "Traceback" not in answer.output


async def test_a_cap_ends_a_run_in_order_and_names_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Any], Any]
) -> None:
    for name, value in {
        "BASE_URL": f"{await serve(FakeOpenAI('refuses').app)}/v1",
        "PRICE": '{"input":1,"output":10}',
    }.items():
        monkeypatch.setenv(f"WHYRANK_MODELS__TINY__{name}", value)
    folder(tmp_path / "log", busy(20))
    run(
        "eval",
        "cases",
        tmp_path / "log",
        "--out",
        tmp_path / "cases",
        "--protocol",
        "leave-last-out",
    )
    suite = tmp_path / "suite.yaml"
    suite.write_text("data: [cases]\nstrategies: [keyed]\nprobes: 0\n")
    words = "eval", "run", suite, "--out", tmp_path / "run", "--limit", "12", "--spend"
    capped = await asyncio.to_thread(run, *words, "0.001")
    told = " ".join(capped.output.split())
    assert (capped.exit_code, "× 100, against prior" in told) == (0, True), told
    spent, done, again = re.search(
        r"\$([\d.]+) are spent, the cap is \$0.001: (\d+) of 36 .*: (whyrank.*)", told
    ).groups()  # type: ignore[union-attr]
    assert (0.001 <= float(spent) <= 0.003, 26 <= int(done) <= 29) == (True, True)
    cap = f"{2 * float(spent):.2f}".replace("0.00", "0.01")
    assert again == f"whyrank eval run {suite} --out {tmp_path / 'run'} --limit 12 --spend {cap}"
    whole = await asyncio.to_thread(run, *again.split()[1:])
    assert (whole.exit_code, "36/36" in whole.output.replace(" ", "")) == (0, True)
    assert "cap is" not in whole.output
    assert run(*words, "-1").exit_code == 2


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Any], Any]) -> None:
    """Models that need JSON: `up` likes the last candidate best, `down` the first; films, and two
    people who did something."""
    model = {"backend": "vllm", "model": "fake", "price": '{"input":1,"output":10}', "weight": "1"}
    for alias, score in {"up": lambda place: place, "down": lambda place: -place + 10}.items():
        for key, value in {
            **model,
            "base_url": f"{await serve(FakeOpenAI('refuses', score=score).app)}/v1",
        }.items():
            monkeypatch.setenv(f"WHYRANK_MODELS__{alias.upper()}__{key.upper()}", value)
    saw = {"item_id": "heat", "type": "rating", "value": 5, "occurred_at": "2026-01-01T00:00:00Z"}
    events = [{**saw, "user_id": user} for user in "uv"]
    for feed, lines in (("items", FILMS), ("events", events)):
        (tmp_path / f"{feed}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert (
            await asyncio.to_thread(run, "ingest", feed, tmp_path / f"{feed}.jsonl")
        ).exit_code == 0


async def compared(*words: str | Path) -> Result:
    return await asyncio.to_thread(run, "compare", "--strategy", "keyed", *words)


async def test_models_stand_side_by_side_for_one_person(two: None) -> None:
    shown = await compared(
        "--user",
        "u",
        "--model",
        "whyrank-prior,up",
        "--model",
        "down",
        "--top-n",
        "3",
        "--explain",
        "short",
    )
    told = " ".join(shown.output.split())
    assert shown.exit_code == 0, told
    assert "u: 7 candidates" in told
    for line in (
        "up ~ down │ -1.00 │ 0%",
        "whyrank-prior ~ down │ +1.00 │ 100% │ +1.00",
        "no price",
    ):
        assert line in told
    answer = await compared(
        "--user", "u", "--model", "up", "--model", "down", "--top-n", "3", "--json"
    )
    found = json.loads(answer.stdout)
    assert found["agreement"] == [
        {"one": "up", "other": "down", "tau": -1, "overlap": 0, "own": -1}
    ]
    orders = {
        alias: [item["item_id"] for item in ranking["items"]]
        for alias, ranking in found["rankings"].items()
    }
    assert orders["up"] == orders["down"][::-1]
    assert sorted(orders["up"]) == sorted(found["candidates"])
    assert found["rankings"]["up"]["usage"]["cost"] == pytest.approx((400 + 10 * 10) / 1e6)


async def test_means_over_many_people_from_a_file_and_from_cases(two: None, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("u\nv\n")
    answer = await compared(
        "--suite", tmp_path / "users.txt", "--model", "up,down,whyrank-prior", "--json"
    )
    found = json.loads(answer.stdout)
    assert (found["people"], found["agreement"][0]["tau"]) == (2, -1)
    assert found["models"]["up"]["cost"] == pytest.approx(1000 * (400 + 10 * 10) / 1e6)
    assert found["models"]["whyrank-prior"]["cost"] is found["models"]["up"]["quality"] is None
    (tmp_path / "users.txt").write_text("u\nnobody\n")
    assert (
        "no user 'nobody'"
        in (await compared("--suite", tmp_path / "users.txt", "--model", "up,down")).output
    )
    folder(tmp_path / "log", busy(20))
    run(
        "eval",
        "cases",
        tmp_path / "log",
        "--out",
        tmp_path / "cases",
        "--protocol",
        "leave-last-out",
    )
    shown = " ".join(
        (
            await compared("--suite", tmp_path / "cases", "--limit", "3", "--model", "up,down")
        ).output.split()
    )
    assert "means over 3 people" in shown
    assert re.search(r"cost of 1,000 │ \$0.5000 │ \$0.5000", shown)
    assert re.search(r"nDCG@10 × 100 │ [\d.]+ \([\d.]+…[\d.]+\)", shown)
    assert "is no case folder" in " ".join(
        (await compared("--suite", tmp_path / "log", "--model", "up,down")).output.split()
    )


async def test_a_model_that_fails_is_shown_with_who_answered_for_it(
    two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = await asyncio.to_thread(
        run, "compare", "--user", "u", "--model", "up,down", "--strategy", "first_token"
    )
    table = shown.output.partition("answered by")[2]
    assert shown.exit_code == 0
    assert [
        told
        for told in ("the prior", "first_token:up", "first_token:down", "(no_capability)")
        if told not in table
    ] == []
    monkeypatch.setenv("WHYRANK_MODELS__DOWN__BASE_URL", "http://127.0.0.1:9/v1")
    gone = " ".join((await compared("--user", "u", "--model", "up,down")).output.split())
    assert "model down can't be compared: unreachable" in gone
    assert "whyrank models probe down" in gone
