"""Writes the picks (recommended items) of an answer, finds them again in its text, and finds those
that a turn points to.

Clients keep no state and send back the text of earlier answers, so picks must be readable from that
text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from service.chat.patterns import (
    OBJECT_ANYWHERE,
    ONLY_A_POINTER,
    ORDINALS,
    PLACE_NUMBER,
    PLACES,
    POINTS_TO_ALL,
    POINTS_TO_ONE,
    STEMS,
)
from service.schema import Item, Turn

TITLE = 120
"""Longest title in a sentence, in characters."""
LONGEST_NAME = 200
"""Longest item name, in characters; a longer text in a JSON answer names no item."""
FACTS = 4
"""How many facts of a pick stand beside its title."""

_PICK_LINE = re.compile(r"^[ \t]*\d{1,3}\. \*\*((?:\\.|[^*\\\n])+)\*\*(.*)$", re.MULTILINE)
_CHINESE_LETTER = re.compile(r"[\u4e00-\u9fff]")

Named = Mapping[str, Sequence[Item]]
"""Items by a name that an answer may have given them: the title as it was shown, or the id."""


def shown(title: str) -> str:
    """Returns a title as answers show it: on one line, at most `TITLE` characters before escaping,
    without invisible characters, and with characters that could be taken for markup escaped.
    Returns `untitled` if nothing is left."""
    line = " ".join("".join(char if char.isprintable() else " " for char in title).split())
    return re.sub(r"([\\*`\[\]<])", r"\\\1", line[:TITLE]) or "untitled"


def plain(title: str) -> str:
    """Undoes the escapes of `shown`."""
    return re.sub(r"\\(.)", r"\1", title)


def pick(rank: int, title: str, item: Item | None, reason: str | None) -> str:
    """Returns the line of an answer for one pick, in the form that `shown_in` reads."""
    return f"{rank}. **{shown(title)}**{_facts(item)}" + (f": {reason}" if reason else "")


def _facts(item: Item | None) -> str:
    """Returns the item's first `FACTS` facts in brackets; empty if the item is unknown (None) or
    has no facts."""
    facts = [] if item is None else [shown(str(value)) for _, value in item.facts()]
    first = list(dict.fromkeys(facts))[:FACTS]
    return f" ({', '.join(first)})" if first else ""


def names(turns: Sequence[Turn]) -> set[str]:
    """Returns all names that the assistant's turns may give items. `reading.read` needs the items
    with these names."""
    return {
        name
        for turn in turns
        if turn.role == "assistant"
        for alternatives in _names_in(turn.text)
        for name in alternatives
    }


def shown_in(text: str, items: Named) -> list[Item | None]:
    """Returns the picks of an answer, in order. In a text answer, a pick that is not in `items`
    becomes None, so that the others keep their places; in a JSON answer, it is left out."""
    if not _is_json(text):
        return [
            _namesake(items.get(plain(title), ()), rest) for title, rest in _PICK_LINE.findall(text)
        ]
    places = [
        [items[name][0] for name in alternatives if items.get(name)]
        for alternatives in _names_in(text)
    ]
    return list({known[0].id: known[0] for known in places if known}.values())


def _namesake(namesakes: Sequence[Item], line: str) -> Item | None:
    """Returns, of items with the same title, the one whose facts begin `line` (the rest of the
    pick's line), else the first; None if there are no items."""
    matching = (item for item in namesakes if line.startswith(_facts(item) or " "))
    return next(matching, next(iter(namesakes), None))


def _is_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))


def _names_in(text: str) -> list[list[str]]:
    """Returns, for each place in an answer, the names that the item at this place may have. A JSON
    object is one place, and each of its texts may be the name; each text in a JSON list is a place
    of its own."""
    if not _is_json(text):
        return [[plain(title)] for title, _ in _PICK_LINE.findall(text)]
    try:
        pending: list[Any] = [json.loads(text)]
    except (ValueError, RecursionError):
        return []
    places: list[list[str]] = []
    while pending:
        node = pending.pop()
        children = list(node.values()) if isinstance(node, dict) else node
        texts = [
            child for child in children if isinstance(child, str) and 0 < len(child) <= LONGEST_NAME
        ]
        places += [texts] if isinstance(node, dict) else [[text] for text in texts]
        pending += [child for child in reversed(children) if isinstance(child, dict | list)]
    return places


# ── pointing ──────────────────────────────────────────────────────────────────────────────────────


def meant(text: str, picks: Sequence[Item | None], it: Item | None = None) -> list[Item]:
    """The picks that a turn points to: by title, by place, by "it" or "them". `it`: the pick that
    was last spoken of."""
    if by_title := _titled(text, picks):
        return by_title
    if places := places_in(text):
        return _at([place if place > 0 else len(picks) for place in places], picks)
    if POINTS_TO_ALL.search(text):
        return [item for item in picks if item is not None]
    return [it] if it is not None and POINTS_TO_ONE.search(text) else []


def object_of(
    text: str, verb: re.Match[str], picks: Sequence[Item | None], it: Item | None
) -> list[Item]:
    """Returns the picks that are the object of `verb`, a match in `text`. In other languages than
    English an object may stand before its verb, so the whole text is read."""
    if OBJECT_ANYWHERE.search(verb[0]):
        return meant(text, picks, it)
    return pointed_at(re.split(r"[.;!?]|,? \b(?:but|not)\b", text[verb.end() :])[0], picks, it)


def pointed_at(phrase: str, picks: Sequence[Item | None], it: Item | None) -> list[Item]:
    """Returns the picks that a verb's object names: by place numbers, by titles if it begins with
    one, by a place in the list, or by being only a word such as "it" or "them"."""
    phrase = phrase.strip()
    if PLACES.fullmatch(phrase):
        return _at([int(place) for place in re.findall(r"\d+", phrase)], picks)
    start = re.sub(r"^the (?:film|movie|book|song) ", "", phrase, flags=re.IGNORECASE)
    titled = _titled(start, picks)
    if start.casefold().startswith(tuple(item.title.casefold() for item in titled)):
        return titled
    phrase = phrase.partition(",")[0]
    if _CHINESE_LETTER.search(phrase) or places_in(phrase) or ONLY_A_POINTER.fullmatch(phrase):
        return [item for item in meant(phrase, picks, it) if item not in _titled(phrase, picks)]
    return []


def _titled(text: str, picks: Sequence[Item | None]) -> list[Item]:
    """Picks whose titles stand in the text as whole words. The longest titles are looked for first:
    "Aliens" does not name Alien."""
    folded, ids = text.casefold(), set[str]()
    titled = [item for item in picks if item is not None and len(item.title) > 2]
    for item in sorted(titled, key=lambda item: -len(item.title)):
        title = item.title.casefold()
        words = re.compile(rf"(?<!\w){re.escape(' '.join(title.split()))}(?!\w)")
        if words.search(folded) or (not item.title.isascii() and title in folded):
            ids.add(item.id)
            folded = words.sub(" ", folded)
    return [item for item in picks if item is not None and item.id in ids]


def places_in(text: str) -> list[int]:
    """Places in the list that a text names, from 1; 0 stands for the last one."""
    folded = text.casefold()
    if several := re.search(r"\bthe first (two|three|four|five|[2-9])\b", folded):
        count = int(several[1]) if several[1].isdigit() else ORDINALS[several[1]]
        return list(range(1, count + 1))
    numbers = [int(before or after) for before, after in PLACE_NUMBER.findall(text)]
    ordinals = [place for word, place in ORDINALS.items() if _names_a_place(word, folded)]
    ordinals += [place for stem, place in STEMS.items() if re.search(_ORDINAL.format(stem), folded)]
    last = [0] if re.search(r"\blast one\b|最后一", folded) else []
    return list(dict.fromkeys(numbers + ordinals + last))


_ORDINAL = (
    r"(?:\b(?:der|die|das|den|dem|el|la|los|las|le|les|número|nummer) |(?=[а-яё])(?<!\w)){}\w*\b"
)
"""Where an ordinal of another language than English stands for a place."""


def _names_a_place(word: str, text: str) -> bool:
    """Whether an ordinal or a number in words stands for a place: "the second" and "number two" do;
    "one with a dog" doesn't."""
    if not word.isascii():
        return word in text
    the = rf"|the {word}" if len(word) > 4 else ""
    return bool(re.search(rf"\b(?:number {word}|{word} one{the})\b", text))


def _at(places: Sequence[int], picks: Sequence[Item | None]) -> list[Item]:
    """The known picks at these places, from 1."""
    chosen = [picks[place - 1] for place in dict.fromkeys(places) if 0 < place <= len(picks)]
    return [item for item in chosen if item is not None]
