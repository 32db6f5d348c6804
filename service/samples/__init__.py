"""Invented data to try the product on, made from a seed. Each sample is a module beside this one,
with its words in YAML files of its name."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from service.errors import BadRequest
from service.samples import shop

SAMPLES = {"shop": shop}
"""Modules: `HOLDS` says what is in a sample, in a line; `tables` makes its rows by file name."""


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


def as_csv(rows: Sequence[shop.Row]) -> bytes:
    """CSV in UTF-8 with a header. All rows need the columns of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell_text(cell) for column, cell in row.items()} for row in rows)
    return text.getvalue().encode()


def _cell_text(cell: shop.Cell) -> str | int | None:
    """A list as its parts with '|' between them; None is an empty cell."""
    if isinstance(cell, tuple):
        return "|".join(cell)
    return str(cell).lower() if isinstance(cell, bool) else cell
