"""llama.cpp's own server on a GGUF, as a process: a second real engine. `python -m tests.llama_cpp
FILE PORT` is it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S = 60


@contextmanager
def running(file: Path, port: int) -> Iterator[str]:
    """Its base URL; it calls its model `tiny`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.llama_cpp", str(file), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url, end = f"http://127.0.0.1:{port}/v1", time.monotonic() + START_S
    try:
        while not _up(url):
            assert process.poll() is None, "llama.cpp ended at start"
            assert time.monotonic() < end, f"llama.cpp was not up within {START_S} s"
        yield url
    finally:
        process.terminate()
        process.wait()


def _up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = sys.argv[1], {"tiny"}
    params.port, params.n_ctx, params.n_parallel = int(sys.argv[2]), 4_096, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)  # it serves for as long as it is held
    threading.Event().wait()
