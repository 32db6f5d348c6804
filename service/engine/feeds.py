"""Data sets as feeds that `ingest` reads: fetched in hash-locked wheels, never committed; a set a
file beside this one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.engine import books, groceries, movielens
from service.engine.fetch import Step, unpack, wheels
from service.errors import BadRequest

Rows = Iterable[dict[str, Any]]


@dataclass(frozen=True)
class DataSet:
    """`terms`: of its owners. `members`: the files that are read, a regular expression. `feeds`:
    rows by feed, from those files by name."""

    terms: str
    members: str
    feeds: Callable[[Mapping[str, Path]], Mapping[str, Rows]]


SETS = {
    "movielens-100k": DataSet(movielens.TERMS, movielens.MEMBERS, movielens.feeds),
    "groceries": DataSet(groceries.TERMS, groceries.MEMBERS, groceries.feeds),
    "books": DataSet(books.TERMS, books.MEMBERS, books.feeds),
}


def pull(name: str, data: Path, step: Step) -> Path:
    """Make `data/{name}` with a file a feed and return it; a second call costs nothing. Raises
    `BadRequest` for a name that is none, `ConfigError` when the wheel can't be had."""
    if name not in SETS:
        raise BadRequest(f"no data set {name!r}; known: {', '.join(SETS)}")
    goal = data / name
    if goal.exists():
        return goal
    cache, made = data / f".{name}.wheels", data / f".{name}.made"
    wheel = wheels(name, cache, step)[0]
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    files = {file.name: file for file in unpack(wheel, SETS[name].members, cache)}
    for feed, rows in SETS[name].feeds(files).items():
        with (made / f"{feed}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    made.rename(goal)
    shutil.rmtree(cache)
    return goal
