"""MovieLens-100K as feeds: `items.jsonl`, `users.jsonl`, `events.jsonl`.

GroupLens terms: for research, with acknowledgement, not to be redistributed; so it is fetched and
never committed. F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service.feeds.layouts import display_title

TERMS = "MovieLens-100K (GroupLens): research use, with acknowledgement, no redistribution"
MEMBERS = r"recbole/dataset_example/ml-100k/ml-100k\.(inter|item|user)"


def feeds(files: Mapping[str, Path]) -> dict[str, Iterator[dict[str, Any]]]:
    return {
        "items": map(_item, _rows(files["ml-100k.item"])),
        "users": map(_user, _rows(files["ml-100k.user"])),
        "events": map(_event, _rows(files["ml-100k.inter"])),
    }


def _rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a tab-separated file without quotes, whose columns are named `name:type`."""
    with file.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield {name.split(":")[0]: value for name, value in row.items()}


def _item(row: dict[str, str]) -> dict[str, Any]:
    year = row["release_year"]
    attributes = {
        "year": int(year) if year.isdigit() else None,
        "genre": [genre for genre in row["class"].split() if genre != "unknown"],
    }
    return {
        "id": row["item_id"],
        "title": display_title(row["movie_title"]),
        "attributes": {key: value for key, value in attributes.items() if value},
    }


def _user(row: dict[str, str]) -> dict[str, Any]:
    return {
        "user_id": row["user_id"],
        "attributes": {
            "age": int(row["age"]),
            "gender": row["gender"],
            "occupation": row["occupation"],
        },
    }


def _event(row: dict[str, str]) -> dict[str, Any]:
    return {
        "user_id": row["user_id"],
        "item_id": row["item_id"],
        "type": "rating",
        "value": float(row["rating"]),
        "occurred_at": int(row["timestamp"]) * 1000,
    }
