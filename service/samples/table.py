"""A table of a sample as CSV that `ingest` takes."""

import csv
import io
from collections.abc import Sequence

Cell = str | int | bool | Sequence[str] | None
Row = dict[str, Cell]


def as_csv(rows: Sequence[Row]) -> bytes:
    """CSV in UTF-8 with a header. All rows need the columns of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell_text(cell) for column, cell in row.items()} for row in rows)
    return text.getvalue().encode()


def _cell_text(cell: Cell) -> str:
    """A list as its parts with '|' between them, None as an empty cell."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    return str(cell) if isinstance(cell, str | int) else "|".join(cell)
