"""`whyrank eval` from a shell, on a suite that needs no model."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.config import HOUSE
from tests.conftest import MODELS
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
