"""Reads a conversation by rules: what the person has seen or dislikes, and what they wish for, as
values of the catalogue and as numbers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from service.catalog import Facets
from service.chat.patterns import (
    AGE,
    ASKS_ABOUT,
    ASKS_WHY,
    CLAUSE_ENDS,
    CONTINUES,
    COUNT,
    DECADE,
    DECADES,
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
    WITHOUT,
    YEAR,
)
from service.chat.picks import Named, meant, object_of, places_in, pointed_at, shown_in
from service.schema import Filter, Item, Turn

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
    that it points to. `said`: its remarks about the person.
    `avoid`, `exclude`: topics and item ids that must not be recommended again.
    `wishes`: in the person's words, the latest last. `filters`: those that the wishes state.
    `many`: how many picks were last asked for.
    """

    kind: Kind | None
    turn: str
    about: Sequence[Item] = ()
    said: Sequence[Remark] = ()
    avoid: Sequence[str] = ()
    exclude: Sequence[str] = ()
    wishes: Sequence[str] = ()
    filters: Mapping[str, Filter] = field(default_factory=dict)
    many: int | None = None

    @property
    def instruction(self) -> str | None:
        """The last wishes as one text, the latest first."""
        return "; ".join(reversed(self.wishes[-WISHES:])) or None


def read(turns: Sequence[Turn], items: Named, facets: Facets) -> Talk:
    """Reads a conversation by rules. `items`: the items with the names that `picks.names` finds.

    A turn that takes up what came before (a rejection, a remark, "and …") adds to the wish; any
    other turn replaces it. What was seen, disliked or rejected stays excluded.
    """
    picks: list[Item | None] = []
    it: Item | None = None  # what "it" stands for
    exclude, avoid, left_out = list[str](), list[str](), list[str]()
    wishes: list[str] = []
    filters: dict[str, Filter] = {}
    many: int | None = None
    talk = Talk("smalltalk", "")
    for turn in turns:
        if turn.role == "assistant":
            listed = shown_in(turn.text, items)
            if any(listed):
                picks, it = listed, listed[0]
            continue
        talk = _read_turn(" ".join(turn.text.split())[:LONGEST_READ], picks, it, facets)
        if talk.kind in {"why", "about", "smalltalk"}:
            it = talk.about[0] if len(talk.about) == 1 else it
            continue
        rejects = REJECTION.search(turn.text)
        exclude += [item.id for item in picks if rejects and item is not None]
        exclude += [remark.about for remark in talk.said if remark.about is not None]
        avoid += [remark.topic for remark in talk.said if remark.topic]
        many = talk.many or many
        only_a_number = talk.many is not None and not talk.wishes
        if not (rejects or talk.said or only_a_number or CONTINUES.match(turn.text)):
            wishes, filters, left_out = [], {}, []
        elif rejects and talk.wishes:
            wishes = []
        wishes += talk.wishes
        filters |= talk.filters
        left_out += talk.avoid
    return replace(
        talk,
        avoid=list(dict.fromkeys([*avoid, *left_out])),
        exclude=list(dict.fromkeys(exclude)),
        wishes=wishes,
        filters=filters,
        many=many,
    )


def _read_turn(text: str, picks: Sequence[Item | None], it: Item | None, facets: Facets) -> Talk:
    """Reads a single turn of the person. `picks`: the picks of the last answer; `it`: the pick that
    "it" stands for."""
    pointed = meant(text, picks, it)
    if SMALLTALK.match(text[:100]) and len(text) <= 100:
        return Talk("smalltalk", text)
    if picks and ASKS_WHY.search(text):
        spoken_of = [it] if it is not None and not places_in(text) else []
        return Talk("why", text, pointed or spoken_of)
    if pointed and ASKS_ABOUT.search(text):
        return Talk("about", text, pointed)
    remarks, rest = _remarks(text, picks, it, facets)
    many, wish = counted(_wish(rest) if remarks else text.strip(), facets)
    if FILLER_WORDS.issuperset(re.findall(r"\w+", wish.casefold())):
        wish = ""
    avoid = [value for match in WITHOUT.finditer(wish) for value in named(match["what"], facets)]
    filters = demands(WITHOUT.sub(" ", wish), facets)
    recommends = remarks or filters or avoid or many or REJECTION.search(text)
    return Talk(
        "recommend" if recommends else None,
        text,
        pointed,
        remarks,
        avoid,
        wishes=(wish,) if wish else (),
        filters=filters,
        many=many,
    )


def _remarks(
    text: str, picks: Sequence[Item | None], it: Item | None, facets: Facets
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
        phrase, parts = _disliked(match[group], facets)
        items = pointed_at(phrase, picks, it)
        remarks += [Remark("dislike", item) for item in items] or [
            Remark("dislike", topic=topic(part, facets)) for part in parts
        ]
        end = match.start(group) + len(phrase)
        rest = rest[: match.start()] + " " * (end - match.start()) + rest[end:]
    once = {(remark.kind, remark.about, remark.topic): remark for remark in remarks}
    return [*once.values()], rest


def _wish(text: str) -> str:
    """The clauses of a turn that say nothing of what the person has seen or dislikes."""
    clauses = [clause.strip() for clause in CLAUSE_ENDS.split(text) if clause.strip()]
    return ", ".join(
        clause for clause in clauses if not (SEEN.search(clause) or DISLIKE.search(clause))
    )


def _disliked(words: str, facets: Facets) -> tuple[str, list[str]]:
    """Returns, of the words after "I don't like", the phrase that says what is disliked, and the
    topics in it: several if the phrase is a list (with "or", "and" or "nor") whose every part names
    a value of the catalogue, else one."""
    phrase = DISLIKE_ENDS.split(words)[0]
    first = phrase.partition(",")[0]
    for listing in ([phrase] if OR.search(phrase.rpartition(",")[2]) else []) + [first]:
        parts = [
            part.strip() for run in listing.split(",") for part in OR.split(run) if part.strip()
        ]
        if len(parts) > 1 and all(named(part, facets) for part in parts):
            return listing, parts
    return first, [first]


# ── wishes ────────────────────────────────────────────────────────────────────────────────────────


def counted(text: str, facets: Facets) -> tuple[int | None, str]:
    """How many picks a wish asks for (None if it doesn't say), and the wish without that number.

    "Ten please", "12 comedies" and "two more" ask for so many picks; "Ten", "12 Monkeys" and
    "2 hours" don't.
    """
    for match in COUNT.finditer(text):
        group = "n" if match["n"] else "zh"
        digits = match[group]
        number = int(digits) if digits.isdigit() else NUMBERS[digits.casefold()]
        if number and (group == "zh" or _counts(digits, match["what"].strip(), facets)):
            rest = text[: match.start(group)] + text[match.end(group) :]
            return number, " ".join(rest.split())
    return None, text


def _counts(number: str, after: str, facets: Facets) -> bool:
    """Returns whether `number` counts picks, judged by the words `after` it. Without such words a
    capitalised number may be a title: "recommend Seven"."""
    if not after or after.casefold() in {"please", "instead", "now"}:
        return number.isdigit() or number.islower()
    near = " ".join(after.split()[:3])
    return bool(PICK_NOUN.match(near) or ITEM_NOUN.search(near) or named(near, facets))


def topic(words: str, facets: Facets) -> str:
    """The catalogue's value that the words name, else the words themselves, shortened."""
    return next(iter(named(words, facets)), " ".join(words.split())[:60])


def named(text: str, facets: Facets) -> list[str]:
    """The catalogue's values that a text names, whatever their case, hyphens and plural."""
    words = re.findall(r"[\w'’-]+", text.casefold())
    phrases = {_bare("".join(words[n : n + size])) for size in (1, 2, 3) for n in range(len(words))}
    return [
        value
        for values in facets.values.values()
        for value in values
        if _bare(value.casefold()) in phrases
    ]


def _bare(word: str) -> str:
    """A word without hyphens and blanks, in the singular."""
    plain = re.sub(r"[\W_]", "", word)
    for plural, singular in (("ies", "y"), ("es", "e"), ("s", "")):
        if len(plain) > 4 and plain.endswith(plural):
            return plain.removesuffix(plural) + singular
    return plain


def demands(text: str, facets: Facets) -> dict[str, Filter]:
    """Filters that a wish states: the catalogue's own values by name and, where items have a
    `year`, a decade, a year, or how old they are among the others."""
    wished = {key: named(text, Facets({key: values})) for key, values in facets.values.items()}
    filters = {key: Filter(any=values) for key, values in wished.items() if values}
    years = _years(text, facets) if "year" in facets.ends else None
    return filters if years is None else {**filters, "year": years}


def _years(text: str, facets: Facets) -> Filter | None:
    """Returns a filter for the years that a wish states; None if it states none. "Old" and "new"
    stand for the oldest and the newest fifth of the catalogue."""
    if decade := DECADE.search(text):
        start = int(decade[1]) if decade[1] else DECADES[decade[2].lower()]
        first = (1900 if start >= 30 else 2000) + start
        return Filter(gte=first, lt=first + 10)
    if year := YEAR.search(text):
        value = int(year[2])
        bound = {"before": "lt", "until": "lte", "after": "gt", "since": "gte"}.get(year[1].lower())
        return Filter.model_validate({bound: value} if bound else {"gte": value, "lte": value})
    low, high = facets.ends["year"]
    for age in AGE.finditer(text):
        if ITEM_NOUN.search(age["what"]) or named(age["what"], facets):
            return Filter(lte=low) if age["old"] else Filter(gte=high)
    return None
