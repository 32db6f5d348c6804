"""Where logs go and what they look like, in processes of their own."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.build import build
from service.config import HOUSE, Settings
from tests.conftest import FILMS, free_port
from tests.fake_openai import FakeOpenAI
from tests.test_api import Serve

NOISE = """
import faulthandler, logging, os, sys, threading, time, warnings
from pathlib import Path
from service.cli import app

def make(ready):
    while not ready.exists():
        time.sleep(0.01)
    os.write(2, b"[WARN lance] words of a native library\\n")
    warnings.warn("words of an old interface", DeprecationWarning)
    logging.getLogger("some.library").error("words of a library")
    threading.Thread(target=lambda: 1 / 0).start()
    ready.with_name("done").touch()
    if "abort" in sys.argv:
        while ready.exists():
            time.sleep(0.01)
        os.write(2, b"last words")
        os.abort()

threading.Thread(target=make, args=[Path(sys.argv[1])], daemon=True).start()
app(["serve"])
"""


def environment(data: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(HOUSE),
        "PYTHONWARNINGS": "default",
        "WHYRANK_DATA": str(data),
        "WHYRANK_CONFIG": str(HOUSE / "configs" / "test.yaml"),
        "WHYRANK_MODELS__TINY__BASE_URL": "http://127.0.0.1:9/v1",
        "WHYRANK_MODELS__GHOST__BACKEND": "local",
        "WHYRANK_MODELS__GHOST__MODEL": "ghost",
        **more,
    }


def noisy(tmp_path: Path, *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """A service with a thread that makes noise once `ready` exists."""
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-c", NOISE, str(tmp_path / "ready"), *words]
        more = environment(tmp_path / "data", WHYRANK_SERVICE__PORT=str(port))
        return subprocess.Popen(
            command, env=more, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=log
        ), port


def wait(process: subprocess.Popen[bytes], done: Callable[[], bool]) -> None:
    while not done():
        assert process.poll() is None, "the service ended"
        time.sleep(0.01)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60).is_success
    except httpx.TransportError:
        return False


def lines(log: Path) -> list[dict[str, str]]:
    """Every one an object, or this fails."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line for line in found if not {"event", "level", "timestamp"} <= line.keys()] == []
    return found


def test_every_line_of_a_services_log_is_a_json_object(tmp_path: Path) -> None:
    process, port = noisy(tmp_path)
    wait(process, lambda: answers(port))
    (tmp_path / "ready").touch()
    wait(process, (tmp_path / "done").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, -signal.SIGTERM)
    found = lines(tmp_path / "log")
    said = {line["event"] for line in found} | {line.get("line", "") for line in found}
    assert {
        "[WARN lance] words of a native library",
        "words of a library",
        "model_left_out",
    } <= said
    assert any("words of an old interface" in line for line in said)
    assert "ZeroDivisionError: division by zero" in said


def test_the_last_words_of_a_service_that_crashes_are_in_its_log(tmp_path: Path) -> None:
    process, port = noisy(tmp_path, "abort")
    wait(process, lambda: answers(port))
    (tmp_path / "ready").touch()
    wait(process, (tmp_path / "done").exists)
    (tmp_path / "ready").unlink()
    assert process.wait(30) == -signal.SIGABRT
    while (
        "Current thread" not in (tmp_path / "log").read_text()
    ):  # written by a process that outlives the service
        time.sleep(0.01)
    assert any(line.get("line", "").startswith("last words") for line in lines(tmp_path / "log"))


def test_what_keeps_a_service_from_starting_is_an_error_in_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "whyrank.db").write_bytes(b"")
    process, _ = noisy(tmp_path)
    assert process.wait(60) == 1
    assert ("not_started", "store_damaged") in [
        (line["event"], line.get("code")) for line in lines(tmp_path / "log")
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("recommend", "u", "--strategy", "prior", "--instruction", "horror", "--json"),
        ("compare", "--user", "u", "--model", "tiny", "--model", "whyrank-prior", "--json"),
    ],
)
async def test_an_answer_as_json_is_all_of_standard_output(
    settings: Settings, serve: Serve, words: tuple[str, ...]
) -> None:
    service = await build(settings)
    await service.ingest.items(FILMS)
    await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
    await service.ingest.embed_pending()
    await service.close()
    url = f"{await serve(FakeOpenAI('ranks').app)}/v1"
    command = [sys.executable, "-m", "service.cli", *words]
    both = asyncio.subprocess.PIPE
    more = environment(settings.data, WHYRANK_MODELS__TINY__BASE_URL=url)
    process = await asyncio.create_subprocess_exec(
        *command, env=more, cwd=HOUSE, stdout=both, stderr=both
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert json.loads(out)
    assert [line for line in err.decode().splitlines() if "model_left_out" not in line] == []
    assert b"model_left_out" in err
