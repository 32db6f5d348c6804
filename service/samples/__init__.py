"""Invented data to try the product on, made from a seed. Each sample is a module beside this one,
with its words in YAML files of its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import BadRequest
from service.samples import shop
from service.samples.table import Row, as_csv


@dataclass(frozen=True)
class Sample:
    """`holds`: what is in it, in a line. `tables`: makes the rows by file name from a seed."""

    holds: str
    tables: Callable[[int], Mapping[str, Sequence[Row]]]


SAMPLES = {"shop": Sample(shop.HOLDS, shop.tables)}


def write(name: str, folder: Path, seed: int) -> dict[Path, int]:
    """Writes a sample's CSV files into `folder`; returns the number of rows of each.

    The same seed gives the same bytes. Raises `BadRequest`, before anything is written, for an
    unknown sample and for a folder with a file of such a name and another content, which may be
    somebody's own.
    """
    if name not in SAMPLES:
        raise BadRequest(f"no sample {name!r}; known: {', '.join(SAMPLES)}")
    tables = {folder / file: rows for file, rows in SAMPLES[name].tables(seed).items()}
    contents = {path: as_csv(rows) for path, rows in tables.items()}
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise BadRequest(f"{path} is there already and differs: name another folder by --out")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        path.write_bytes(content)
    return {path: len(rows) for path, rows in tables.items()}
