"""What a text claims, word by word: stems of words, what is denied, numbers, and Chinese runs."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from eval.lexicon import FUNCTION_WORDS, HAN_DENIED, HAN_WORDS, NEGATORS, UNNEGATED, listed
from service.schema import Item

HAN = "\u3007\u3400-\u9fff"
_TOKEN = re.compile(
    rf"(?P<word>(?:(?![{HAN}])[^\W\d_])+(?:['’](?:(?![{HAN}])[^\W\d_])+)*)|(?P<stop>[,.;:!?()，。；：！？、\n—·])"
)
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_RUN = re.compile(f"[{HAN}]+")
DENIED_WORDS = 2
"""How many words after a negator it denies: "no added sugar"."""
LONGEST_PIECE = 24
"""Characters of the longest piece of a Chinese run that is looked up at once."""
ENDINGS = listed(
    "s es ed d er ers r ing ings ly y th ness ful ment ish al ic ity ion ions able en est n"
)
"""What a word may have at its end and still say the same. Not "less"."""


class Word(NamedTuple):
    """`form`: as it is written, in lower case; `at`: its place in the text."""

    form: str
    denied: bool
    at: int


def plain(text: str) -> str:
    """The text in the forms that are compared: compatible characters are one, case is none."""
    return unicodedata.normalize("NFKC", text).casefold()


def bare(text: str) -> str:
    """Letters and digits of a text alone: a title's spelling but for its signs."""
    return "".join(re.findall(r"\w+", plain(text)))


def words(text: str) -> Iterator[Word]:
    """All words of a text but Chinese ones, those of one letter and those that deny others."""
    left, after_denied, free = 0, False, None
    found = list[Word]()
    for token in _TOKEN.finditer(text):
        form = plain(token["word"] or "").replace("’", "'").removesuffix("'s")
        if not form:
            left, after_denied = 0, False
        elif form in NEGATORS or form.endswith("n't"):
            left = DENIED_WORDS
        elif form in UNNEGATED or form in {"and", "yet", "though"}:
            left, after_denied = 0, False
        elif form == "or" and after_denied:
            left = 1
        elif form == "free" and text[token.start() - 1 : token.start()] == "-" and found:
            free = found.pop()
            found.append(Word(free.form, True, free.at))
        elif len(form) > 1:
            counts = form not in FUNCTION_WORDS
            found.append(Word(form, left > 0 and counts, token.start()))
            after_denied = left > 0 or (after_denied and not counts)
            left -= counts and left > 0
    yield from found


def numbers(text: str) -> Iterator[tuple[float, int, int]]:
    """Numbers in digits, each with its beginning and end in the text."""
    for match in _NUMBER.finditer(unicodedata.normalize("NFKC", text)):
        yield float(match[0].replace(",", "")), match.start(), match.end()


def runs(text: str) -> Iterator[tuple[str, int]]:
    """Runs of Chinese characters, each with its place in the text."""
    for match in _RUN.finditer(text):
        yield match[0], match.start()


@cache
def stem(word: str) -> str:
    """A word without the ending of its form: "roasted" and "roasts" have one stem."""
    for ending in ("ings", "ing", "ies", "ied", "ed", "es", "s", "ly", "y", "e"):
        if word.endswith(ending) and not word.endswith(("ss", "us", "is")):
            kept = word.removesuffix(ending)
            if len(kept) >= 3:
                word = kept[:-1] if len(kept) > 3 and kept[-1] == kept[-2] else kept
                break
    return word.removesuffix("i") if len(word) > 3 else word


@cache
def alike(one: str, other: str) -> bool:
    """Whether two words are forms of one: of one stem, one with an ending more, or with most of
    their letters in common from the beginning on, as "romance" and "romantic"."""
    if stem(one) == stem(other):
        return True
    short, long = sorted((one, other), key=len)
    if long.endswith("less") and not short.endswith("less"):
        return False
    if len(short) >= 4 and long.startswith(short) and long[len(short) :] in ENDINGS:
        return True
    same = next(
        (n for n, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1), len(short)
    )
    return same >= 5 and same >= 0.6 * len(long)


def phrase(text: str) -> tuple[str, ...]:
    """The stems of a text's words: how values and titles are looked up."""
    return tuple(stem(word.form) for word in words(text))


@dataclass(frozen=True)
class Material:
    """All that an item says of itself. `said`: words that it says; `denied`: words that it only
    denies; `values`: its attributes' values as `phrase`s; `lines`: its texts."""

    said: frozenset[str]
    denied: frozenset[str]
    numbers: frozenset[float]
    values: frozenset[tuple[str, ...]]
    lines: tuple[str, ...]

    @classmethod
    def of(cls, item: Item) -> "Material":
        facts = [(key, value) for key, value in item.facts() if isinstance(value, str)]
        flags = [(key, value) for key, value in item.facts() if isinstance(value, bool)]
        figures = {float(value) for _, value in item.facts() if not isinstance(value, str | bool)}
        lines = (item.title, item.text, *(value for _, value in facts))
        found = [word for line in lines for word in words(line)]
        found += [Word(w.form, not value, 0) for key, value in flags for w in words(_spaced(key))]
        figures |= {number for line in lines for number, *_ in numbers(line)}
        if item.published_at is not None:
            figures.add(float(item.published_at.year))
        said = frozenset(word.form for word in found if not word.denied)
        return cls(
            said,
            frozenset(word.form for word in found) - said,
            frozenset(figures),
            frozenset(phrase(value) for _, value in facts),
            tuple(unicodedata.normalize("NFKC", line) for line in lines if _RUN.search(line)),
        )

    def says(self, form: str) -> bool:
        return form in self.said or any(alike(form, word) for word in self.said)

    def denies(self, form: str) -> bool:
        """Whether a word stands in the item's texts, but only denied."""
        return not self.says(form) and any(alike(form, word) for word in self.denied)

    def places(self, piece: str) -> list[bool]:
        """For each place where a Chinese piece stands in the item's texts: is it denied there?"""
        return [
            HAN_DENIED.search(line[max(0, at.start() - 6) : at.start()]) is not None
            for line in self.lines
            for at in re.finditer(re.escape(piece), line)
        ]


def _spaced(key: str) -> str:
    return key.replace("_", " ")


def covered(run: str, materials: Sequence[Material]) -> list[tuple[str, bool | None]]:
    """Splits a Chinese run into pieces, so that as few characters as possible stay unexplained.
    Each piece with True: it stands in all `materials`, not denied; False: in none, or denied; None:
    it is a word that says nothing of an item."""

    def known(piece: str) -> bool | None:
        if piece in HAN_WORDS:
            return None
        own = len(piece) > 1 or any(piece in material.lines for material in materials)
        return own and all(not all(material.places(piece) or [True]) for material in materials)

    best: list[tuple[float, list[tuple[str, bool | None]]]] = [(0, [])]
    for end in range(1, len(run) + 1):
        options = []
        for start in range(max(0, end - LONGEST_PIECE), end):
            piece, (cost, pieces) = run[start:end], best[start]
            kind = known(piece)
            if kind is not False or len(piece) == 1:
                price = 10.0 if kind is False else 1.0 if kind else 1.1
                options.append((cost + price, [*pieces, (piece, kind)]))
        best.append(min(options, key=lambda option: option[0]))
    return _joined(best[-1][1])


def _joined(pieces: Sequence[tuple[str, bool | None]]) -> list[tuple[str, bool | None]]:
    """The pieces, with neighbours that are both unexplained as one."""
    joined = list[tuple[str, bool | None]]()
    for piece, kind in pieces:
        if joined and kind is False and joined[-1][1] is False:
            joined[-1] = joined[-1][0] + piece, False
        else:
            joined.append((piece, kind))
    return joined
