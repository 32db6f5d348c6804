"""Verifies a model's clause against the catalogue, and writes reasons: with the clause if it is
verified, else by a template.

A clause is grounded if it names something that the chosen item shares with all cited items, and if
every other word is neutral or occurs in the chosen item's title, text or numbers.
"""

import re
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

from service.explain.evidence import Liked, Support, in_words, words
from service.explain.lines import LONGEST_LINE
from service.explain.wording import CHINESE, ENGLISH, Language
from service.prompts import harmless
from service.schema import Candidate, Item, Reason

NEUTRAL = frozenset(
    re.findall(
        r"\w+",
        "a about again also an and another as at both but by common element elements fan fans "
        "feel feels film films for from full genre genres gives has have in into is it item items "
        "its kind like likes love lot lots many mix mixed mixes more much of offers one others "
        "piece plenty same setting shares similar some sort special story strong style that the "
        "theme themes there this to together too touch twist type very well with you your",
    )
)
"""Words that make no claim that could be false."""
CHINESE_NEUTRAL = frozenset(
    re.findall(
        r"\w+",
        "也 是 都 有 又 的 和 与 及 以及 同样 同样是 一样 一部 另一部 一种 这部 "
        "影片 电影 片 作品 故事 元素 风格 类型 题材 特点 属于 具有 带有 含有 包含 "
        "充满 融合 融合了 结合 结合了 共有 相同 相似 类似 你 喜欢 它 年",
    )
)
HAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts without spaces between words, to be put into `[…]` of a pattern."""

_REFUSED = re.compile(
    r"(?:\b(?:no|not|cannot|without|never|nothing|none|neither|nor|except|avoid|hate|hates|dislike|less|instead|than|but|"
    r"tired|sick|enough)\b|n['’]t\b|[不没别無无非除腻少]|讨厌).*?(?:[!?;。!?;\n]|(?<=\w{3})\.(?!\d)|$)",
    re.IGNORECASE | re.DOTALL,
)
"""Matches from a negation to the end of its sentence: what is named there may be unwanted."""


def wanted(wish: str) -> str:
    """The plain words of a wish, without anything that follows a negation."""
    return _separated(_plain(_REFUSED.sub(" ", wish)))


def wished(value: str, plain: str) -> bool:
    """Returns whether `plain`, the words of a wish as `wanted` returns them, name an attribute's
    `value`, in any form that keeps its stem."""
    value = _separated(_plain(value))
    if re.fullmatch(f"[{HAN}]{{2,}}", value):
        return value in plain
    return value not in NEUTRAL and _names(plain, value)


def grounded(
    text: str, candidate: Item, cited: Sequence[Item], language: Language = ENGLISH
) -> bool:
    """Whether a clause about `candidate` names something shared with every cited item, and claims
    nothing that the catalogue doesn't contain."""
    if language is CHINESE:
        return _grounded_in_chinese(text, candidate, cited)
    shared = _shared(candidate, cited)
    known = {*NEUTRAL, *_plain(f"{candidate.title} {candidate.text}").split(), *_numbers(candidate)}
    plain = _plain(text)
    unknown = [word for word in _without(plain, shared).split() if word not in known]
    return any(_names(plain, value) for value in shared) and all(
        any(_names(word, value) for value in shared) for word in unknown
    )


def _grounded_in_chinese(text: str, candidate: Item, cited: Sequence[Item]) -> bool:
    """`grounded` for Chinese, where no spaces mark words: only neutral words, shared values as the
    catalogue spells them, and the item's numbers are allowed.

    Every run of characters must split into such words. Values of one character are ignored: they
    occur in too many words.
    """
    values = {value for value in map(_separated, _shared(candidate, cited)) if len(value) > 1}
    runs = {value for value in values if re.fullmatch(f"[{HAN}]+", value)}
    plain = _separated(_plain(text))
    neutral, numbers = CHINESE_NEUTRAL | runs, _numbers(candidate)
    named = any(value in plain if value in runs else _mentions(plain, value) for value in values)
    return named and all(
        run in numbers or _consists_of(run, neutral)
        for run in _without(plain, values - runs).split()
    )


def _consists_of(run: str, words: Set[str]) -> bool:
    """Whether a run of characters can be split completely into these words."""
    ends = {0}
    for end in range(1, len(run) + 1):
        if any(start in ends and run[start:end] in words for start in range(end)):
            ends.add(end)
    return len(run) in ends


def _separated(plain: str) -> str:
    """Puts spaces between characters of scripts without spaces between words and all others."""
    return " ".join(re.findall(f"[{HAN}]+|[^{HAN} ]+", plain))


def _shared(candidate: Item, cited: Sequence[Item]) -> set[str]:
    """Values that the candidate has in common with every cited item."""
    return set.intersection(*(_values(item) for item in [candidate, *cited]))


def _numbers(item: Item) -> set[str]:
    return {_plain(str(value)) for _, value in item.facts() if not isinstance(value, str)}


def _plain(text: str) -> str:
    """The words of a text in lower case, separated by single spaces."""
    return " ".join(re.findall(r"[\w'-]+", harmless(text).casefold()))


def _mentions(text: str, phrase: str) -> bool:
    """Whether the plain text holds the phrase as whole words."""
    return bool(phrase) and f" {phrase} " in f" {text} "


def _without(text: str, phrases: Collection[str]) -> str:
    """The plain text without the phrases, the longest of which are taken out first."""
    for phrase in sorted(phrases, key=len, reverse=True):
        text = f" {text} ".replace(f" {phrase} ", " ").strip()
    return text


def _names(text: str, value: str) -> bool:
    """Whether the text names the value, in any form that keeps its stem: comedy, comedies; romance,
    romantic."""
    if len(value) < 6 or " " in value:
        return _mentions(text, value)
    return any(word.startswith(value[:5]) for word in text.split())


def _values(item: Item) -> set[str]:
    """An item's textual attribute values as plain words; `_numbers` returns the numeric ones."""
    return {
        _plain(value) for _, value in item.facts() if isinstance(value, str) and not value.isdigit()
    } - {""}


# ── reasons ───────────────────────────────────────────────────────────────────────────────────────

_LINE = re.compile(r"[A-Z] \[(h\d+(?:,h\d+)*)\] (.+)")


@dataclass(frozen=True)
class Claim:
    """What a model says of a chosen item: the labels of the liked items that it cites, and its
    clause."""

    labels: tuple[int, ...]
    clause: str


def claim_of(
    line: str, item: Item, support: Support, liked: Liked, language: Language
) -> Claim | None:
    """Parses a model's line. Returns None if its form is wrong or its clause can't be verified."""
    match = _LINE.fullmatch(line.strip()) if len(line) <= LONGEST_LINE else None
    if match is None:
        return None
    cited = {int(label[1:]) for label in match[1].split(",")}
    labels = next((choice for choice in support.choices if set(choice) == cited), ())
    clause = language.finished(match[2])
    items = [liked[label][1] for label in labels]
    verified = clause and items and grounded(clause, item, items, language)
    return Claim(labels, clause) if verified else None


@dataclass(frozen=True)
class Reasons:
    """Writes reasons. `wish`: the person's instruction in plain words. `known`: ids of the items
    that the person has seen."""

    liked: Liked
    language: Language
    wish: str
    known: frozenset[str]

    def reason(
        self, candidate: Candidate, rank: int, support: Support, claim: Claim | None
    ) -> Reason:
        """Makes a reason of a model's claim. Without one, writes a sentence on the attributes
        shared with liked items, else on those that the wish names, else on the liked items that
        moved the score, else on the sources that found the candidate."""
        cited = claim.labels if claim is not None else ()
        labels = list(dict.fromkeys([*cited, *support.moved]))
        labels = labels or [choice[0] for choice in support.choices[:1]]
        entries = [self.liked[label] for label in labels]
        items = [item for _, item in entries]
        facts = {fact for fact in words(candidate.item) if wished(str(fact[1]), self.wish)}
        if claim is not None:
            text = self.language.sentence(items[: len(cited)], claim.clause, items[len(cited) :])
        elif support.common:
            text = self.language.shared(support.common, *entries[0], items[1:])
        elif in_wish := in_words(candidate.item, facts):
            text = self.language.matched(in_wish, items)
        elif items:
            text = self.language.speaks.format(titles=self.language.titles(items))
        else:
            text = self.language.origin(candidate, known=candidate.item.id in self.known)
        return Reason(
            item_id=candidate.item.id,
            rank=rank,
            reason=text,
            evidence=[item.id for item in items],
            grounded=claim is not None,
        )
