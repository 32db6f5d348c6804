"""Says what is wrong with a model's clause, if anything: whether each of its words is accounted for
by the facts that it cites or makes no claim, and whether it reads like a sentence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.explain.language import Language
from service.language import language_of
from service.prompts import harmless

SPAN = 3
"""Fewest words of a phrase that may be quoted from the middle of a text."""
Problem = Literal["form", "unknown", "unshared", "repeated", "length", "language", "slip"]


@dataclass(frozen=True)
class Objection:
    """What is wrong with a clause. `word`: the first that nothing accounts for."""

    problem: Problem
    word: str = ""

    def said(self, language: Language) -> str:
        """The objection as a model is told it."""
        return language.again.format(language.objections[self.problem].format(self.word))


@dataclass(frozen=True)
class Fact:
    """A fact that a clause may cite. `kind`: `shared`, `attribute` or `text`; `text`: how the model
    reads it; `values`: what of it a clause may say, in one piece each; `led`: for each of them, it
    with the words that may introduce it, as in "good for hiking"."""

    kind: str
    text: str
    values: Sequence[str]
    led: Sequence[Sequence[str]] = ()


def objection(clause: str, cited: Sequence[Fact], language: Language) -> Objection | None:
    """The first objection to a clause; None if it may stand. `cited`: the facts that it cites, of
    which it must name something of each that is shared."""
    if not clause.endswith(language.stop) or "\n" in clause:
        return Objection("form")
    body = clause.removesuffix(language.stop).strip()
    if re.search(r"[.!?。!?;\[\]\"“”«»《》「」]", re.sub(r"(?<=\d)\.(?=\d)", "", body)):
        known = any(value in body for fact in cited for value in fact.values if "." in value)
        if not known:
            return Objection("form")
    spans, unknown = _read(body, cited, language)
    if unknown:
        return Objection("unknown", unknown)
    named = {plain(span) for span in spans}
    for fact in cited:
        if fact.kind == "shared" and not any(plain(value) in named for value in fact.values):
            return Objection("unshared")
    if not spans:
        return Objection("unknown", body[:20])
    words = _units(body, language)
    if _repeats(words, spans, language):
        return Objection("repeated")
    if language.slips and re.search(language.slips, body):
        return Objection("slip")
    low, high = (3, language.length[1]) if language.spaced else (4, language.length[1])
    if not low <= len(words) <= high:
        return Objection("length")
    rest = " ".join(word for word in words if word not in named)
    foreign = language_of(rest) if len(rest.split()) > 6 or not language.spaced else ""
    return Objection("language") if foreign not in {"", language.code} else None


def plain(text: str) -> str:
    """A text's words in lower case, separated by single spaces."""
    return " ".join(_WORD.findall(harmless(text).casefold()))


_WORD = re.compile(r"\w+(?:['’.-]\w+)*")


def _units(text: str, language: Language) -> list[str]:
    """The words of a text; its characters, without marks, where spaces don't part words."""
    return plain(text).split() if language.spaced else list("".join(_WORD.findall(text.casefold())))


def _read(body: str, cited: Sequence[Fact], language: Language) -> tuple[list[str], str]:
    """Accounts for every word of a clause, from its beginning, by the longest value or phrase of
    the cited facts, or as a word that makes no claim. Returns the values and phrases that it says,
    and the first word that is not accounted for."""
    words = _units(body, language)
    function = {tuple(_units(word, language)) for word in language.function}
    if language.phrases:
        function |= _phrase_words(cited, language)
    values = {tuple(_units(value, language)): value for fact in cited for value in fact.values}
    texts = [_units(fact.text, language) for fact in cited if fact.kind == "text"]
    longest = max([*map(len, values), *map(len, texts), *map(len, function), 1])
    spans: list[str] = []
    ends: dict[int, tuple[int, str]] = {0: (0, "")}
    for end in range(1, len(words) + 1):
        for start in range(max(0, end - longest), end):
            piece = tuple(words[start:end])
            if start in ends and (
                (said := _accounts(piece, values, texts, language)) or piece in function
            ):
                ends[end] = start, said
                break
    if len(words) not in ends:
        return [], "".join(words[max(ends) :][:12]) if not language.spaced else words[max(ends)]
    at = len(words)
    while at:
        at, said = ends[at][0], ends[at][1]
        if said:
            spans.append(said)
    return spans, ""


def _accounts(
    piece: tuple[str, ...],
    values: dict[tuple[str, ...], str],
    texts: Sequence[list[str]],
    language: Language,
) -> str:
    """The value or phrase that a run of words says; empty if the facts have none such."""
    if piece in values:
        return values[piece]
    if len(piece) == 1 and language.spaced and len(piece[0]) >= 5:
        for value, said in values.items():
            if len(value) == 1 and len(value[0]) >= 6 and piece[0].startswith(value[0][:5]):
                return said  # another form of the word: comedies, romantic
    least = SPAN if language.spaced else 2 * SPAN
    for text in texts:
        for at in range(len(text) - len(piece) + 1) if len(piece) >= least else ():
            after = text[at + len(piece) : at + len(piece) + 3]
            before = text[max(0, at - 3) : at] if language.spaced else text[max(0, at - 2) : at]
            if tuple(text[at : at + len(piece)]) == piece and not (
                language.negations & set(before if language.spaced else [*before, *after])
            ):
                return " ".join(piece)
    return ""


def _phrase_words(cited: Sequence[Fact], language: Language) -> set[tuple[str, ...]]:
    """The words that introduce the values of the cited facts, as in "good for hiking"."""
    found: set[tuple[str, ...]] = set()
    for fact in cited:
        for value, forms in zip(fact.values, fact.led, strict=False):
            for part in (part for form in forms for part in form.split(value)):
                run = tuple(_units(part, language))
                found |= {run, *((word,) for word in run if language.spaced)} if run else set()
    return found


def _repeats(words: Sequence[str], spans: Sequence[str], language: Language) -> bool:
    """Whether three words in a row, or a value, are said twice."""
    size = 3 if language.spaced else 5
    runs = [tuple(words[n : n + size]) for n in range(len(words) - size + 1)]
    said = [plain(span) for span in spans]
    return len(set(runs)) < len(runs) or len(set(said)) < len(said)
