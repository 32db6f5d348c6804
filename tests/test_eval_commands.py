"""`whyrank eval` from a shell, on a suite that needs no model."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.config import HOUSE
from tests.conftest import MODELS
from tests.fake_openai import FakeOpenAI
from tests.test_eval_cases import busy, folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WHYRANK_CONFIG", str(HOUSE / "configs" / "test.yaml"))
    monkeypatch.setenv("WHYRANK_EMBED__PATH", str(MODELS / "minilm"))


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_from_a_log_to_a_leaderboard_and_into_a_case(tmp_path: Path) -> None:
    users = [{"user_id": f"u{n}", "attributes": {"side": "left" if n % 2 else "right"}} for n in range(20)]
    folder(tmp_path / "log", busy(20), users=users)
    made = run("eval", "cases", tmp_path / "log", "--out", tmp_path / "cases", "--protocol", "leave-last-out")
    assert "20 cases" in made.output
    suite = tmp_path / "suite.yaml"
    suite.write_text("data: [cases]\nstrategies: [prior]\nsources: true\ntitle: Mine\n")
    ran = run("eval", "run", suite, "--out", tmp_path / "run", "--limit", "12")
    assert ran.exit_code == 0, ran.output
    assert "prior" in ran.output
    again = run("eval", "run", suite, "--out", tmp_path / "run", "--limit", "12")
    assert "48/48" in again.output.replace(" ", "")
    report = run("eval", "report", tmp_path / "run", "--by", "side", "--markdown", tmp_path / "docs" / "mine.md")
    assert "by side" in report.output
    assert (tmp_path / "docs" / "mine.md").read_text().startswith("# Mine")
    case = run("eval", "show", tmp_path / "run", _first_case(tmp_path), "--suite", suite)
    assert "known" in case.output
    assert case.exit_code == 0
    compared = run("eval", "compare", tmp_path / "run", "similar", "prior")
    assert "could see" in " ".join(compared.output.split())


def _first_case(path: Path) -> str:
    import json

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
    for name, value in {"BASE_URL": f"{await serve(FakeOpenAI('refuses').app)}/v1", "PRICE": '{"input":1,"output":10}'}.items():
        monkeypatch.setenv(f"WHYRANK_MODELS__TINY__{name}", value)
    folder(tmp_path / "log", busy(20))
    run("eval", "cases", tmp_path / "log", "--out", tmp_path / "cases", "--protocol", "leave-last-out")
    suite = tmp_path / "suite.yaml"
    suite.write_text("data: [cases]\nstrategies: [keyed]\nprobes: 0\n")
    words = "eval", "run", suite, "--out", tmp_path / "run", "--limit", "12", "--spend"
    capped = await asyncio.to_thread(run, *words, "0.001")
    told = " ".join(capped.output.split())
    assert (capped.exit_code, "× 100, against prior" in told) == (0, True), told
    spent, done, again = re.search(r"\$([\d.]+) are spent, the cap is \$0.001: (\d+) of 36 .*: (whyrank.*)", told).groups()  # type: ignore[union-attr]
    assert (0.001 <= float(spent) <= 0.003, 26 <= int(done) <= 29) == (True, True)
    assert again == f"whyrank eval run {suite} --out {tmp_path / 'run'} --limit 12 --spend {2 * float(spent):.2f}".replace(
        "0.00", "0.01"
    )
    whole = await asyncio.to_thread(run, *again.split()[1:])
    assert (whole.exit_code, "36/36" in whole.output.replace(" ", "")) == (0, True)
    assert "cap is" not in whole.output
    assert run(*words, "-1").exit_code == 2
