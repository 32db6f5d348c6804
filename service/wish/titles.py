"""Finds where a wish may name an item by its title: in quotes, and beside "like"."""

import re
from collections.abc import Iterator, Mapping

from service.wish.wordings import languages_of, phrases

LONGEST = 8
"""Most words of a title that stands without quotes."""
QUOTED = re.compile(r"[\"“„”«»《》「」『』‘]([^\"“„”«»《》「」『』‘’]{2,100})[\"“”«»《》「」『』’]")
_WORD = re.compile(r"[^\s,;!?，。！？、]+")


def possible(text: str) -> dict[tuple[int, int], str]:
    """The places at which a title may stand in a text, and what stands there."""
    found = {match.span(1): match[1].strip() for match in QUOTED.finditer(text)}
    spoken = phrases(languages_of(text))
    for match in spoken.all("like", text):
        for place in _after(text, match.end()):
            found[place] = text[slice(*place)]
    for match in spoken.all("like_after", text):
        for place in _before(text, match.start()):
            found[place] = text[slice(*place)]
    return found


def known(
    possible: Mapping[tuple[int, int], str], ids: Mapping[str, str]
) -> dict[tuple[int, int], str]:
    """The places at which a title does stand, without overlaps: the longest. `ids`: of items, by
    their titles in folded case."""
    chosen: dict[tuple[int, int], str] = {}
    for place in sorted(possible, key=lambda span: span[0] - span[1]):
        item_id = ids.get(possible[place].casefold().strip(" ."))
        if item_id is not None and all(
            place[1] <= start or end <= place[0] for start, end in chosen
        ):
            chosen[place] = item_id
    return chosen


def _after(text: str, start: int) -> Iterator[tuple[int, int]]:
    """The first words after a place, up to each of the first `LONGEST`; where spaces don't part
    words, up to each letter."""
    words = [match.span() for match in _WORD.finditer(text, start)][:LONGEST]
    for _, end in words:
        yield words[0][0], end
    if words and not text[words[0][0] : words[0][1]].isascii():
        first, end = words[0]
        for n in range(first + 2, min(end, first + 30)):
            yield first, n


def _before(text: str, end: int) -> Iterator[tuple[int, int]]:
    words = [match.span() for match in _WORD.finditer(text[:end])][-LONGEST:]
    for start, _ in words:
        yield start, end
    if words and not text[words[-1][0] : words[-1][1]].isascii():
        first = words[-1][0]
        for n in range(max(first, end - 30) + 1, end - 1):
            yield n, end
