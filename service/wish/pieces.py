"""Splits a wish into its pieces: what it names, what may refuse or want that, the words between."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from service.wish.numbers import Bound, bounds
from service.wish.vocabulary import Named, Vocabulary
from service.wish.wordings import Phrases

Kind = Literal[
    "name", "bound", "title", "before", "after", "both", "other",
    "end", "comma", "or", "and", "article", "want", "soft", "word", "filler",
]  # fmt: skip
"""What a piece is: something named; a cue that refuses; or what parts, joins and fills."""
CUES = frozenset({"before", "after", "both", "other"})
SPLIT = re.compile(r"[^\W_]+(?:['’‑-][^\W_]+)*|[^\w\s]|\s+|_")
ENDS = frozenset(".;!?。！？；…\n:：—–|()（）")
COMMAS = frozenset(",，、")


@dataclass
class Token:
    """A piece of a wish. `of`: what it names; `refused`: whether that is not wanted; `negative`:
    whether its own words say what is not wanted, as "nothing before 1990"; `dropped`: whether
    nothing is searched by it."""

    kind: Kind
    start: int
    end: int
    text: str
    of: Named | Bound | str | None = None
    refused: bool = False
    negative: bool = False
    dropped: bool = False

    @property
    def thing(self) -> bool:
        return self.kind in {"name", "bound", "title"}


def tokens_of(
    text: str,
    spoken: Phrases,
    vocabulary: Vocabulary,
    titles: Mapping[tuple[int, int], str],
) -> list[Token]:
    """Splits a wish into its pieces, in order."""
    taken: list[Token] = [
        Token("title", start, end, text[start:end], item_id)
        for (start, end), item_id in titles.items()
    ]
    for bound in bounds(text, spoken, vocabulary):
        said = text[bound.start : bound.end]
        negative = any(spoken.all("before", said))
        token = Token("bound", bound.start, bound.end, said, bound, negative=negative)
        _take(taken, token)
    for named in vocabulary.find(text):
        _take(taken, Token("name", named.start, named.end, named.said, named))
    idle = [match.span() for match in spoken.all("idle", text)]
    cues: list[Token] = []
    sides: tuple[Kind, ...] = ("before", "after", "other")
    for kind in sides:
        for match in spoken.all(kind, text):
            start, end = _trimmed(match, taken)
            if end > start and not _within(start, end, idle):
                cues.append(Token(kind, start, end, text[start:end]))
    for match in spoken.all("rather", text):
        _take(taken, Token("before", *match.span("cue"), match["cue"]))
    for cue in _merged(cues):
        _take(taken, cue)
    for start, end in idle:
        _take(taken, Token("filler", start, end, text[start:end]))
    marks: tuple[tuple[Kind, str], ...] = (("end", "contrast"), ("want", "wants"), ("soft", "soft"))
    for kind, name in marks:
        for match in spoken.all(name, text):
            _take(taken, Token(kind, *match.span(), match[0]))
    taken.sort(key=lambda token: token.start)
    return _filled(text, taken, spoken)


def _take(taken: list[Token], token: Token) -> None:
    """Adds a piece if no other has its place."""
    if all(token.end <= other.start or other.end <= token.start for other in taken):
        taken.append(token)


def _trimmed(match: re.Match[str], taken: Sequence[Token]) -> tuple[int, int]:
    """The place of a cue without the names that it runs into."""
    start, end = match.span()
    for token in taken:
        if token.start < end and start < token.end:
            if token.start > start:
                end = min(end, token.start)
            elif token.end < end:
                start = max(start, token.end)
            else:
                return start, start
    return start, end


def _within(start: int, end: int, places: Iterable[tuple[int, int]]) -> bool:
    """Whether a place overlaps one of others that reaches at least as far."""
    return any(low < end and start < high and high - low >= end - start for low, high in places)


def _merged(cues: Sequence[Token]) -> list[Token]:
    """Cues without overlaps: the longest; if one of the other kind overlaps it, it is of both
    kinds."""
    merged: list[Token] = []
    for cue in sorted(cues, key=lambda cue: (cue.start - cue.end, cue.start)):
        over = [one for one in merged if one.start < cue.end and cue.start < one.end]
        if not over:
            merged.append(cue)
        for one in over:
            if {one.kind, cue.kind} == {"before", "after"}:
                one.kind = "both"
    return merged


def _filled(text: str, taken: Sequence[Token], spoken: Phrases) -> list[Token]:
    """All pieces: those that are taken, and the words and marks between them."""
    tokens: list[Token] = []
    joins = [
        (name, match.span())
        for name in ("or_", "and_", "articles")
        for match in spoken.all(name, text)
    ]
    kinds: dict[str, Kind] = {"or_": "or", "and_": "and", "articles": "article"}
    lists = {match.span() for match in spoken.all("lists", text)}
    place = 0
    for token in [*taken, Token("end", len(text), len(text), "")]:
        for word in SPLIT.finditer(text, place, token.start):
            start, end = word.span()
            if word[0].isspace() and "\n" not in word[0]:
                continue
            kind: Kind = "word"
            joined = next((name for name, span in joins if span[0] <= start < end <= span[1]), None)
            if word[0][0] in ENDS:
                kind = "end"
            elif word[0] in COMMAS:
                kind = "comma"
            elif joined is not None:
                kind = kinds[joined]
            elif (
                (start, end) in lists
                or not re.search(r"\w", word[0])
                or (spoken.spaced and _is_filler(word[0], spoken))
            ):
                kind = "filler"
            if kind == "word" and not spoken.spaced:
                tokens += _letters(word, spoken, joins, kinds)
            else:
                tokens.append(Token(kind, start, end, word[0]))
        place = token.end
        if token.end > token.start:
            tokens.append(token)
    return _without_asides(tokens)


def _without_asides(tokens: list[Token]) -> list[Token]:
    """Takes commas around words that say nothing for nothing, too, after a cue: "don't show me,
    please, any horror"."""
    commas = [n for n, token in enumerate(tokens) if token.kind == "comma"]
    for first, second in pairwise(commas):
        between = tokens[first + 1 : second]
        spoken = first > 0 and tokens[first - 1].kind in CUES
        if spoken and between and all(token.kind == "filler" for token in between):
            tokens[first].kind = tokens[second].kind = "filler"
    return tokens


def _is_filler(word: str, spoken: Phrases) -> bool:
    folded = word.casefold().replace("’", "'")
    parts = re.split(r"['-]", folded)
    return folded in spoken.filler or all(part in spoken.filler or not part for part in parts)


def _letters(
    word: re.Match[str],
    spoken: Phrases,
    joins: Sequence[tuple[str, tuple[int, int]]],
    kinds: Mapping[str, Kind],
) -> list[Token]:
    """The pieces of a run in which no spaces part words: fillers, the longest first, joints, and
    what is left between them."""
    text, start = word[0], word.start()
    tokens: list[Token] = []
    n = 0
    while n < len(text):
        size = next(
            (
                size
                for size in range(min(6, len(text) - n), 0, -1)
                if text[n : n + size] in spoken.filler
            ),
            0,
        )
        at = start + n
        join = next((name for name, span in joins if span[0] == at and span[1] <= word.end()), None)
        if join is not None:
            size = next(span[1] - span[0] for name, span in joins if span[0] == at and name == join)
            tokens.append(Token(kinds[join], at, at + size, text[n : n + size]))
        elif size:
            tokens.append(Token("filler", at, at + size, text[n : n + size]))
        else:
            size = 1
            if tokens and tokens[-1].kind == "word" and tokens[-1].end == at:
                tokens[-1].end += 1
                tokens[-1].text += text[n]
            else:
                tokens.append(Token("word", at, at + 1, text[n]))
        n += size
    return tokens
