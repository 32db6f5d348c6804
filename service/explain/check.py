"""Can every word of a sentence be accounted for? It names something that the chosen item and all
cited ones share; whatever else it says claims nothing, or stands in the chosen item's own title,
text or numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from service.explain.wording import CHINESE, ENGLISH, Language
from service.prompts import harmless
from service.schema import Item

NEUTRAL = frozenset(
    re.findall(
        r"\w+",
        "a about again also an and another as at both but by common element elements fan fans "
        "feel feels film films "
        "for from full genre genres gives has have in into is it item items its kind like likes "
        "love lot lots many mix "
        "mixed mixes more much of offers one others piece plenty same setting shares similar "
        "some sort "
        "special story strong style that the theme themes there this to together too touch "
        "twist type very well with you "
        "your",
    )
)
"""Words that claim nothing which could be false."""


CHINESE_NEUTRAL = frozenset(
    re.findall(
        r"\w+",
        "也 是 都 有 又 的 和 与 及 以及 同样 同样是 一样 一部 另一部 一种 这部 "
        "影片 电影 片 作品 故事 元素 风格 类型 "
        "题材 特点 属于 具有 带有 含有 包含 充满 融合 融合了 结合 结合了 "
        "共有 相同 相似 类似 你 喜欢 它 "
        "年",
    )
)
HAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
"""Letters that stand without spaces between words."""

_REFUSED = re.compile(
    r"(?:\b(?:no|not|cannot|without|never|nothing|none|neither|nor|except|avoid|hate|hates|dislike|less|instead|than|but|"
    r"tired|sick|enough)\b|n['’]t\b|[不没别無无非除腻少]|讨厌).*?(?:[!?;。!?;\n]|(?<=\w{3})\.(?!\d)|$)",
    re.IGNORECASE | re.DOTALL,
)
"""From a "no" or its like to the sentence's end: what is named there may be just what is not
wanted."""


def wanted(wish: str) -> str:
    """Of a wish what may be wanted, in plain words."""
    return _apart(_plain(_REFUSED.sub(" ", wish)))


def wished(value: str, plain: str) -> bool:
    """Do plain words name an attribute's value, in any form that keeps its stem?"""
    value = _apart(_plain(value))
    if re.fullmatch(f"[{HAN}]{{2,}}", value):
        return value in plain
    return value not in NEUTRAL and _names(plain, value)


def grounded(
    text: str, candidate: Item, cited: Sequence[Item], language: Language = ENGLISH
) -> bool:
    """Does a clause about `candidate` say nothing but what it shares with every cited item, and
    what claims nothing?"""
    if language is CHINESE:
        return _chinese(text, candidate, cited)
    shared = _shared(candidate, cited)
    known = {*NEUTRAL, *_plain(f"{candidate.title} {candidate.text}").split(), *_numbers(candidate)}
    plain = _plain(text)
    rest = plain
    for value in sorted(shared, key=len, reverse=True):
        rest = _without(rest, value)
    loose = [
        word
        for word in rest.split()
        if word not in known and not any(_names(word, value) for value in shared)
    ]
    return not loose and any(_names(plain, value) for value in shared)


def _chinese(text: str, candidate: Item, cited: Sequence[Item]) -> bool:
    """Stricter, as nothing tells where a word ends: beside neutral words only shared values, letter
    by letter as the metadata have them, and the item's numbers. Every run of characters must be
    made of whole words; a value of one character is none.
    """
    shared = {_apart(value) for value in _shared(candidate, cited)}
    runs = {value for value in shared if re.fullmatch(f"[{HAN}]{{2,}}", value)}
    plain = rest = _apart(_plain(text))
    for value in sorted(shared - runs, key=len, reverse=True):
        rest = _without(rest, value) if len(value) > 1 else rest
    words = CHINESE_NEUTRAL | runs
    loose = [
        part
        for part in rest.split()
        if part not in _numbers(candidate) and not _made_of(part, words)
    ]
    named = any(value in plain for value in runs) or any(
        _mentions(plain, value) for value in shared - runs if len(value) > 1
    )
    return named and not loose


def _made_of(run: str, words: Set[str]) -> bool:
    ends = {0}
    for end in range(1, len(run) + 1):
        if any(start in ends and run[start:end] in words for start in range(end)):
            ends.add(end)
    return len(run) in ends


def _apart(plain: str) -> str:
    """Spaces between letters of words and those that stand without."""
    return " ".join(re.findall(f"[{HAN}]+|[^{HAN} ]+", plain))


def _shared(candidate: Item, cited: Sequence[Item]) -> set[str]:
    return set.intersection(*(_values(item) for item in [candidate, *cited]))


def _numbers(item: Item) -> set[str]:
    return {_plain(str(part)) for _, part in item.facts() if not isinstance(part, str)}


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w'-]+", harmless(text).casefold()))


def _mentions(text: str, phrase: str) -> bool:
    return bool(phrase) and f" {phrase} " in f" {text} "


def _without(text: str, phrase: str) -> str:
    return f" {text} ".replace(f" {phrase} ", " ").strip() if phrase else text


def _names(text: str, value: str) -> bool:
    """Is the attribute value named, in any form that keeps its stem: comedy, comedies; romance,
    romantic?"""
    if len(value) < 6 or " " in value:
        return _mentions(text, value)
    return any(word.startswith(value[:5]) for word in text.split())


def _values(item: Item) -> set[str]:
    """What an item is, in words; numbers are checked as facts instead."""
    return {
        _plain(part)
        for _, part in item.facts()
        if isinstance(part, str) and not part.isdigit() and _plain(part)
    }
