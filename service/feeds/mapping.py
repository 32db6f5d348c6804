"""Which column of a table is which field of ours, as options of `whyrank ingest` or a YAML file
say."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.errors import BadRequest, reasons
from service.feeds.cells import TimeUnit, read_cell
from service.feeds.rows import FIELDS, Notes, Row, meant_by
from service.schema import Feed

EVERYTHING_ELSE = "*"
"""As the name of a column to drop: stands for all columns that are no field of the feed."""


class FileMapping(BaseModel):
    """How to read somebody's file.

    map        by field of ours or name of an attribute: their column (or key; dotted in objects)
    set        by field of ours: the value that all rows have
    drop       columns to leave out; `*`: all that are no field of ours
    time_unit  of times that are numbers
    time_zone  of times that name none
    scale      lowest and highest rating in this file, put onto the scale of the event's type
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    map: dict[str, str] = {}
    set: dict[str, str | int | float | bool] = {}
    drop: frozenset[str] = frozenset()
    time_unit: TimeUnit | None = None
    time_zone: str | None = None
    delimiter: str | None = Field(None, min_length=1, max_length=8)
    encoding: str | None = None
    scale: tuple[float, float] | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        try:
            return name and ZoneInfo(name).key
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{name}: no such time zone; as UTC or Europe/Berlin") from error

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str | None) -> str | None:
        try:
            return name and codecs.lookup(name).name
        except LookupError as error:
            raise ValueError(
                f"{name}: no such encoding; as utf-8, latin-1, cp1252, gb18030, shift_jis, utf-16"
            ) from error

    @field_validator("delimiter", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return {"tab": "\t", "\\t": "\t"}.get(value, value) if isinstance(value, str) else value

    @field_validator("scale", mode="before")
    @classmethod
    def _two_bounds(cls, value: object) -> object:
        return value.split(":") if isinstance(value, str) else value

    @field_validator("scale")
    @classmethod
    def _rising(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and scale[0] >= scale[1]:
            raise ValueError("the lowest value, then the highest, as 0.5:5")
        return scale

    @classmethod
    def read(cls, file: Path) -> FileMapping:
        """Reads a YAML file. Raises `BadRequest` naming file, key and reason."""
        try:
            return cls.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
        except OSError as error:
            raise BadRequest(f"{file}: can't be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BadRequest(f"{file}: not YAML: {error}") from error
        except ValidationError as error:
            raise BadRequest(f"{file}: {reasons(error)}") from error

    @classmethod
    def made(cls, file: Path | None, options: Mapping[str, Any]) -> FileMapping:
        """Returns the mapping of a YAML file, if any, in which the `options` that are given replace
        the file's. Raises `BadRequest` naming the invalid option."""
        base = cls.read(file).model_dump() if file is not None else {}
        given = {
            name: value for name, value in options.items() if value not in (None, {}, frozenset())
        }
        for name in ("map", "set"):
            if name in given:
                given[name] = {**base.get(name, {}), **given[name]}
        try:
            return cls.model_validate({**base, **given})
        except ValidationError as error:
            raise BadRequest(
                "; ".join(f"--{line.replace('_', '-', 1)}" for line in reasons(error).split("; "))
            ) from error

    def named(self, row: Mapping[str, Any]) -> Row:
        """Returns the row with mapped columns under our names, other columns under their own names,
        no dropped columns, and the values of `set`."""
        taken = {*self.map.values(), *self.drop}
        kept = {key: value for key, value in row.items() if key not in taken}
        mapped = {ours: value_at(row, theirs) for ours, theirs in self.map.items()}
        return {**kept, **mapped, **self.set}

    def reader(self, feed: Feed, notes: Notes) -> Callable[[Mapping[str, Any]], Row]:
        """A function that turns a row of a table or of JSON into a row of ours, without missing
        values. It raises `BadRequest` for a time that can't be read."""
        wanted = {*FIELDS[feed], *self.map, *self.set}
        zone = ZoneInfo(self.time_zone) if self.time_zone else None
        renames = bool(self.map or self.set or self.drop)
        drops_others = EVERYTHING_ELSE in self.drop
        hidden = {ours for ours, theirs in self.map.items() if ours != theirs}

        def read(row: Mapping[str, Any]) -> Row:
            own_row: Row = {}
            for key, cell in (self.named(row) if renames else row).items():
                if drops_others and key not in wanted:
                    notes.left_out[key] += 1
                    continue
                value = read_cell(key, cell, self.time_unit, zone)
                if value is not None:
                    own_row[key] = value
            # their columns by the name of a field that is mapped to another column
            notes.left_out.update(hidden & row.keys())
            return own_row

        return read

    def check(self, name: str, feed: Feed, columns: Collection[str]) -> None:
        """Raises `BadRequest`, with the options that help, for a table without a column that the
        mapping names or the feed needs, and for columns that events have no field for."""
        lacking = [theirs for theirs in self.map.values() if theirs not in columns]
        shown = ", ".join(columns)[:500]
        if lacking:
            raise BadRequest(f"{name}: no column {lacking[0]!r} (--map); it has {shown}")
        have = self.named(dict.fromkeys(columns))
        missing = [names for names in NEEDED[feed] if not {*names} & have.keys()]
        if missing:
            needed = " and ".join(" or ".join(names) for names in missing)
            raise BadRequest(
                f"{name}: {feed} need {needed}; its columns are {shown}; "
                f"{proposal(feed, columns, have)}"
            )
        unknown = [column for column in have if column not in FIELDS[feed]]
        if unknown and feed == "events" and EVERYTHING_ELSE not in self.drop:
            drops = " ".join(f"--drop {_quoted(column)}" for column in unknown)
            raise BadRequest(
                f"{name}: events have no field for {', '.join(unknown)}; leave out what they hold "
                f"by {drops} (--drop '*': all such), or --map FIELD=COLUMN"
            )


NEEDED: dict[Feed, tuple[tuple[str, ...], ...]] = {
    "items": (("id",),),
    "users": (("user_id",),),
    "events": (("user_id", "session_id"), ("type",)),
}
"""By feed, groups of fields: a row needs one of each group."""


def proposal(feed: Feed, columns: Collection[str], have: Collection[str] = ()) -> str:
    """Returns a hint for an error message: the options of `whyrank ingest` that may turn these
    columns into the fields of `feed`. `have`: the fields that the columns give already."""
    open_fields = [field for field in FIELDS[feed] if field not in have]
    options = []
    for column in columns:
        field = meant_by(column, open_fields)
        if field is not None and column != field:
            open_fields.remove(field)
            options.append(f"--map {field}={_quoted(column)}")
    if feed == "events" and "type" in open_fields:
        options.append(f"--set type={'purchase' if 'value' in open_fields else 'rating'}")
    advice = " ".join(options) or " ".join(f"--map {names[0]}=COLUMN" for names in NEEDED[feed])
    return f"try {advice} (and --dry-run to see what comes of it)"


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """Returns the value of the key `path`, or else at the dotted `path` through objects; None if
    there is none."""
    if path in row:
        return row[path]
    head, _, rest = path.partition(".")
    inner = row.get(head)
    return value_at(inner, rest) if rest and isinstance(inner, Mapping) else None


def _quoted(column: str) -> str:
    return column if column.isidentifier() else f"'{column}'"
