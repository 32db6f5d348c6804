"""What a reason says that metadata can prove or refute: titles, attribute values and years that it
names.

Knows nothing of how reasons are made or checked: it reads them as a person would who has the
catalogue at hand.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from service.schema import Item


class Statement(NamedTuple):
    kind: str
    named: str
    true: bool


def statements(
    reason: str, item: Item, cited: Sequence[Item], catalogue: Iterable[Item]
) -> Iterator[Statement]:
    """`true`: a title is that of the item or of one it cites; a value is one that the item has, and
    all that are named in the same part of the sentence; a year is the year of one of them."""
    catalogue = list(catalogue)
    for part in re.split(r"[;;](?=\s*(?:your liking|你对))", reason):
        named = ["".join(quoted) for quoted in re.findall(r'"([^"]*)"|《([^》]*)》', part)]
        related = [item, *(one for one in cited if _bare(one.title) in map(_bare, named))]
        titles = {_bare(one.title) for one in [item, *cited]}
        yield from (Statement("title", title, _bare(title) in titles) for title in named)
        rest = re.sub(r'"[^"]*"|《[^》]*》|you rated \d', " ", part)
        for title in {one.title for one in catalogue if " " in one.title}:
            if re.search(rf"(?<!\w){re.escape(title)}(?!\w)", rest):
                yield Statement("title", title, _bare(title) in titles)
        for value in {value for one in catalogue for value in _values(one)}:
            if _said(value, rest):
                yield Statement("value", value, all(value in _values(one) for one in related))
        years = {str(value) for one in related for key, value in one.facts() if key == "year"}
        for year in re.findall(r"(?<!\d)(?:1[89]|20)\d\d(?!\d)", rest):
            yield Statement("year", year, year in years)


def _bare(title: str) -> str:
    return "".join(re.findall(r"\w+", title)).casefold()


def _values(item: Item) -> set[str]:
    return {value for _, value in item.facts() if isinstance(value, str)}


def _said(value: str, text: str) -> bool:
    """In any form that keeps its stem: comedy, comedies; romance, romantic."""
    stem = re.escape(value[:5] if len(value) >= 5 and " " not in value else value)
    return (
        re.search(
            rf"(?<![a-z]){stem}" + ("" if len(value) >= 5 else r"(?![a-z])"),
            text,
            flags=re.IGNORECASE,
        )
        is not None
    )
