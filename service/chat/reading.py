"""Reads a conversation by rules: what the person has seen or dislikes, and what they wish for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from service.chat.patterns import (
    ASKS_ABOUT,
    ASKS_WHY,
    CLAUSE_ENDS,
    CONTINUES,
    COUNT,
    DISLIKE,
    DISLIKE_ENDS,
    FILLER_WORDS,
    ITEM_NOUN,
    NUMBERS,
    OR,
    PICK_NOUN,
    REJECTION,
    SEEN,
    SMALLTALK,
    TASTE,
)
from service.chat.picks import Named, meant, object_of, places_in, pointed_at, shown_in
from service.schema import Item, Turn, Wish
from service.wish import Vocabulary
from service.wish import read as read_wish

Kind = Literal["recommend", "why", "about", "smalltalk", "offtopic"]
"""What kind of thing a turn says."""

LONGEST_READ = 2_000
"""Only so many characters of a turn are read, after runs of blanks became one."""
WISHES = 3
"""How many of the last wishes make up one instruction."""


@dataclass(frozen=True)
class Remark:
    """Something a turn says of the person: they know an item, or don't like an item or a topic."""

    kind: Literal["seen", "dislike"]
    item: Item | None = None
    topic: str = ""

    @property
    def about(self) -> str | None:
        """The item's id; None for a topic."""
        return self.item.id if self.item is not None else None


@dataclass(frozen=True)
class Talk:
    """What the rules read from a conversation.

    `kind`: the last turn's kind; None where no rule can tell. `turn`: its text. `about`: the picks
    that it points to. `said`: its remarks about the person. `unshown`: whether it asks about picks
    where none were shown. `avoid`, `exclude`: topics and item ids that must not be recommended
    again. `wishes`: in the person's words, the latest last. `than`: what of the last turn's wish is
    more or less than in the last picks, by key of a number. `shown`: these picks. `many`: how many
    picks were last asked for."""

    kind: Kind | None
    turn: str
    about: Sequence[Item] = ()
    said: Sequence[Remark] = ()
    unshown: bool = False
    avoid: Sequence[str] = ()
    exclude: Sequence[str] = ()
    wishes: Sequence[str] = ()
    than: Mapping[str, str] = field(default_factory=dict)
    shown: Sequence[Item] = ()
    many: int | None = None

    @property
    def instruction(self) -> str | None:
        """The last wishes as one text, the latest first."""
        return "; ".join(reversed(self.wishes[-WISHES:])) or None


def read(turns: Sequence[Turn], items: Named, vocabulary: Vocabulary) -> Talk:
    """Reads a conversation by rules. `items`: the items with the names that `picks.names` finds.

    A turn that takes up what came before (a rejection, a remark, "and …") adds to the wish; any
    other turn replaces it. What was seen, disliked or rejected stays excluded.
    """
    picks: list[Item | None] = []
    it: Item | None = None  # what "it" stands for
    exclude, avoid = list[str](), list[str]()
    wishes: list[str] = []
    many: int | None = None
    talk = Talk("smalltalk", "")
    for turn in turns:
        if turn.role == "assistant":
            listed = shown_in(turn.text, items)
            if any(listed):
                picks, it = listed, listed[0]
            continue
        talk = _read_turn(" ".join(turn.text.split())[:LONGEST_READ], picks, it, vocabulary)
        if talk.kind in {"why", "about", "smalltalk"}:
            it = talk.about[0] if len(talk.about) == 1 else it
            continue
        rejects = REJECTION.search(turn.text)
        exclude += [item.id for item in picks if rejects and item is not None]
        exclude += [remark.about for remark in talk.said if remark.about is not None]
        avoid += [remark.topic for remark in talk.said if remark.topic]
        many = talk.many or many
        only_a_number = talk.many is not None and not talk.wishes
        goes_on = rejects or talk.said or only_a_number or talk.than
        if not (goes_on or CONTINUES.match(turn.text)) or (rejects and talk.wishes):
            wishes = []
        wishes += talk.wishes
        exclude += [item.id for item in picks if talk.than and item is not None]
    return replace(
        talk,
        avoid=list(dict.fromkeys(avoid)),
        exclude=list(dict.fromkeys(exclude)),
        wishes=wishes,
        shown=[item for item in picks if item is not None],
        many=many,
    )


def _read_turn(
    text: str, picks: Sequence[Item | None], it: Item | None, vocabulary: Vocabulary
) -> Talk:
    """Reads a single turn of the person. `picks`: the picks of the last answer; `it`: the pick that
    "it" stands for."""
    pointed = meant(text, picks, it)
    if SMALLTALK.match(text[:100]) and len(text) <= 100:
        return Talk("smalltalk", text)
    if ASKS_WHY.search(text) and (picks or places_in(text)):
        spoken_of = [it] if it is not None and not places_in(text) else []
        return Talk("why", text, pointed or spoken_of, unshown=not picks)
    if ASKS_ABOUT.search(text) and (pointed or (places_in(text) and not picks)):
        return Talk("about", text, pointed, unshown=not picks)
    remarks, rest = _remarks(text, picks, it, vocabulary)
    many, wish = counted(_wish(rest) if remarks else text.strip(), vocabulary)
    if FILLER_WORDS.issuperset(re.findall(r"\w+", wish.casefold())):
        wish = ""
    asked = read_wish(wish, vocabulary) if wish else Wish()
    states = asked.wanted or asked.avoided or asked.filters or asked.soft
    if not (states or asked.content):
        wish = ""
    recommends = remarks or states or many or REJECTION.search(text)
    return Talk(
        "recommend" if recommends else None,
        text,
        pointed,
        remarks,
        wishes=(wish,) if wish else (),
        than=asked.than if any(picks) else {},
        many=many,
    )


def _remarks(
    text: str, picks: Sequence[Item | None], it: Item | None, vocabulary: Vocabulary
) -> tuple[list[Remark], str]:
    """Returns what a turn says of the person, each remark once, and the turn's text with the
    dislikes replaced by blanks."""
    remarks = [
        Remark("seen", item)
        for match in SEEN.finditer(text)
        for item in object_of(text, match, picks, it)
    ]
    rest = text
    for match in DISLIKE.finditer(text):
        group = "en" if match["en"] else "zh"
        phrase, parts = _disliked(match[group], vocabulary)
        items = pointed_at(phrase, picks, it)
        remarks += [Remark("dislike", item) for item in items] or [
            Remark("dislike", topic=topic(part, vocabulary)) for part in parts
        ]
        end = match.start(group) + len(phrase)
        rest = rest[: match.start()] + " " * (end - match.start()) + rest[end:]
    if not remarks and TASTE.search(text):
        refused = read_wish(text, vocabulary)
        remarks = [Remark("dislike", topic=value) for value in refused.avoided]
        rest = refused.text if remarks else rest
    once = {(remark.kind, remark.about, remark.topic): remark for remark in remarks}
    return [*once.values()], rest


def _wish(text: str) -> str:
    """The clauses of a turn that say nothing of what the person has seen or dislikes."""
    clauses = [clause.strip() for clause in CLAUSE_ENDS.split(text) if clause.strip()]
    return ", ".join(
        clause for clause in clauses if not (SEEN.search(clause) or DISLIKE.search(clause))
    )


def _disliked(words: str, vocabulary: Vocabulary) -> tuple[str, list[str]]:
    """Returns, of the words after "I don't like", the phrase that says what is disliked, and the
    topics in it: several if the phrase is a list (with "or", "and" or "nor") whose every part names
    a value of the catalogue, else one."""
    phrase = DISLIKE_ENDS.split(words)[0]
    first = phrase.partition(",")[0]
    for listing in ([phrase] if OR.search(phrase.rpartition(",")[2]) else []) + [first]:
        parts = [
            part.strip() for run in listing.split(",") for part in OR.split(run) if part.strip()
        ]
        if len(parts) > 1 and all(named(part, vocabulary) for part in parts):
            return listing, parts
    return first, [first]


# ── wishes ────────────────────────────────────────────────────────────────────────────────────────


def counted(text: str, vocabulary: Vocabulary) -> tuple[int | None, str]:
    """How many picks a wish asks for (None if it doesn't say), and the wish without that number.

    "Ten please", "12 comedies" and "two more" ask for so many picks; "Ten", "12 Monkeys" and
    "2 hours" don't.
    """
    for match in COUNT.finditer(text):
        group = "n" if match["n"] else "zh"
        digits = match[group]
        number = int(digits) if digits.isdigit() else NUMBERS[digits.casefold()]
        if number and (group == "zh" or _counts(digits, match["what"].strip(), vocabulary)):
            rest = text[: match.start(group)] + text[match.end(group) :]
            return number, " ".join(rest.split())
    return None, text


def _counts(number: str, after: str, vocabulary: Vocabulary) -> bool:
    """Returns whether `number` counts picks, judged by the words `after` it. Without such words a
    capitalised number may be a title: "recommend Seven"."""
    if not after or after.casefold() in {"please", "instead", "now"}:
        return number.isdigit() or number.islower()
    near = " ".join(after.split()[:3])
    return bool(PICK_NOUN.match(near) or ITEM_NOUN.search(near) or named(near, vocabulary))


def topic(words: str, vocabulary: Vocabulary) -> str:
    """The catalogue's value that the words name, else the words themselves, shortened."""
    return next(iter(named(words, vocabulary)), " ".join(words.split())[:60])


def named(text: str, vocabulary: Vocabulary) -> list[str]:
    """The catalogue's values that a text names."""
    found = (value for name in vocabulary.find(text) for _, value in name.values)
    return list(dict.fromkeys(found))
