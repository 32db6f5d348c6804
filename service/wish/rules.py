"""Reads a wish by rules: what it names, what of that it refuses, and which numbers it states."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.schema import Filter, Wish
from service.wish.numbers import Bound, Way
from service.wish.pieces import Token, tokens_of
from service.wish.refusals import refuse, refuse_too
from service.wish.vocabulary import Named, Vocabulary
from service.wish.wordings import Phrases, languages_of, phrases

LONGEST_READ = 2_000
"""Only so many characters of a wish are read."""
PLAIN = 6
"""A wish with no more words beside the things that it names is taken at its word."""
MOST = 50
"""How many things one wish may name of a kind."""
LONGEST_WORD = 100
ASKS = re.compile(
    r"\W*(?:(?:how|why|wie|warum|wieso|cómo|por qué|comment|pourquoi|как|почему|зачем)\b"
    r"|怎么|怎样|如何|为什么|どう|なぜ)",
    re.IGNORECASE,
)
"""The beginning of a question for knowledge."""
NOUNS = re.compile(
    r"films?|movies?|books?|novels?|songs?|albums?|games?|series|shows?|filme?n?|buch|bücher|lied\w*|"
    r"películas?|pelis?|libros?|canci\w+|livres?|chansons?|фильм\w*|кино|книг\w*|песн\w*|"
    r"片子?|电影|书|歌|映画|作品|本|曲",
    re.IGNORECASE,
)
"""What catalogues are made of."""


def read(text: str, vocabulary: Vocabulary, titles: Mapping[tuple[int, int], str] = {}) -> Wish:
    """Reads a wish. `titles`: by where they stand in it, the ids of items whose titles it names."""
    text = text[:LONGEST_READ]
    spoken = phrases(languages_of(text))
    tokens = tokens_of(text, spoken, vocabulary, titles)
    refuse(tokens, spoken)
    refuse_too(tokens, [match.span() for match in spoken.all("same", text)])
    return _wish(text, tokens, spoken)


@dataclass
class _Sum:
    """What a wish comes to, while it is summed up."""

    wanted: dict[str, str] = field(default_factory=dict)
    hinted: set[str] = field(default_factory=set)
    avoided: dict[str, None] = field(default_factory=dict)
    filters: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    soft: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    like: list[str] = field(default_factory=list)
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    than: dict[str, Way] = field(default_factory=dict)


def _wish(text: str, tokens: Sequence[Token], spoken: Phrases) -> Wish:
    total = _summed(tokens)
    question = bool(ASKS.match(text))
    left = text.strip() if question else _left(text, tokens)
    content = (token for token in tokens if _says(token) and (question or not token.dropped))
    return Wish(
        wanted=[*total.wanted][:MOST],
        avoided=[word[:LONGEST_WORD] for word in total.avoided][:MOST],
        filters={key: Filter.model_validate(parts) for key, parts in total.filters.items()},
        soft={key: Filter.model_validate(parts) for key, parts in total.soft.items()},
        like=list(dict.fromkeys(total.like))[:MOST],
        text=left,
        sought=left if any(map(_sought, tokens)) else "",
        named={value: said for value, said in total.wanted.items() if value not in total.hinted},
        words=total.words,
        than=total.than,
        question=question,
        content=" ".join(token.text for token in content),
        wordy=sum(token.kind in {"word", "filler"} for token in tokens) > PLAIN,
        different=any(spoken.all("different", text)),
        rest=" ".join(token.text for token in tokens if token.kind == "word" and not token.dropped),
    )


def _summed(tokens: Sequence[Token]) -> _Sum:
    """What the pieces of a wish come to."""
    total = _Sum()
    softly = any(token.kind == "soft" for token in tokens)
    together: list[list[Token]] = []
    for place, token in enumerate(tokens):
        of = token.of
        if isinstance(of, Bound):
            only_soft = softly or (of.soft and not _of_a_noun(tokens, place))
            _add_bound(total, of, refused=token.refused, softly=only_soft)
        elif isinstance(of, Named) and token.refused:
            if not (of.mood and _named_besides(tokens, of)):
                _avoid(total, of)
        elif isinstance(of, Named) and of.values:
            if together and _one_thing(tokens, place, together[-1]):
                together[-1].append(token)
            else:
                together.append([token])
        elif token.kind == "title" and isinstance(of, str):
            if token.refused:
                total.filters["id"].setdefault("none", []).append(of)
                total.avoided.setdefault(token.text)
            else:
                total.like.append(of)
        elif isinstance(of, str) and token.refused:
            total.avoided.setdefault(of)
            total.words[of] = (of,)
    _want(total, together, softly)
    return total


def _named_besides(tokens: Sequence[Token], mood: Named) -> bool:
    """Whether a wish names, and wants, what a refused mood hints at: "a comedy, but nothing silly"
    is for a comedy."""
    return any(
        isinstance(token.of, Named)
        and not (token.refused or token.of.mood)
        and {*token.of.values} & {*mood.values}
        for token in tokens
    )


def _one_thing(tokens: Sequence[Token], place: int, group: Sequence[Token]) -> bool:
    """Whether a name and the one before it describe one thing, as in "an action comedy"."""
    between = [token for token in tokens[:place] if token.start >= group[-1].end]
    return all(token.kind == "filler" and token.text in {"的", "の", "-"} for token in between)


def _of_a_noun(tokens: Sequence[Token], place: int) -> bool:
    """Whether an adjective of age says what kind of thing is wanted, as in "an old film", and not
    only which way."""
    bound = tokens[place].of
    if not (isinstance(bound, Bound) and bound.than is None and bound.aged):
        return False
    return any(
        token.kind == "name" or NOUNS.fullmatch(token.text)
        for token in tokens[place + 1 : place + 3]
    )


def _add_bound(total: _Sum, bound: Bound, *, refused: bool, softly: bool) -> None:
    if bound.than is not None and not refused:
        total.than[bound.key] = bound.than
    condition = bound.refused if refused else bound.filter
    into = total.soft if softly else total.filters
    into[bound.key] |= condition.model_dump(exclude_none=True)


def _avoid(total: _Sum, named: Named) -> None:
    if not named.values:
        total.avoided.setdefault(named.said)
        total.words[named.said] = named.forms
    for key, value in named.values:
        total.avoided.setdefault(value)
        total.words[value] = named.forms
        none = total.filters[key].setdefault("none", [])
        if value not in none:
            none.append(value)


def _want(total: _Sum, together: Sequence[Sequence[Token]], softly: bool) -> None:
    """Adds what is wanted: one of the values of a key, or all where they describe one thing."""
    for group in together:
        names = [token.of for token in group if isinstance(token.of, Named)]
        at_once = len(names) > 1 or any(named.all_ for named in names)
        for named in names:
            for key, value in named.values:
                if value in total.avoided:
                    continue
                total.wanted.setdefault(value, named.said)
                if named.mood:
                    total.hinted.add(value)
                into = total.soft if named.mood or softly else total.filters
                name = "all" if at_once and not named.mood and len(together) == 1 else "any"
                values = into[key].setdefault(name, [])
                if value not in values:
                    values.append(value)
    for conditions in total.filters.values():
        if "all" in conditions and "any" in conditions:
            conditions["any"] += conditions.pop("all")


def _says(token: Token) -> bool:
    """Whether a piece is no mere filler."""
    return token.kind in {"word", "name", "title"}


def _sought(token: Token) -> bool:
    """Whether a piece says something wanted that no filter does."""
    if token.dropped:
        return False
    of = token.of
    return token.kind == "word" or (isinstance(of, Named) and (of.mood or not of.values))


def _left(text: str, tokens: Sequence[Token]) -> str:
    """The wish without what it refuses; empty if only words are left that say nothing."""
    kept = [token for token in tokens if not token.dropped]
    if not any(token.thing or token.kind == "word" for token in kept):
        return ""
    pieces: list[str] = []
    last = -1
    for token in kept:
        if pieces and token.start > last:
            pieces.append(" ")
        pieces.append(text[token.start : token.end])
        last = token.end
    return " ".join("".join(pieces).split()).strip(" ,;，、。")
