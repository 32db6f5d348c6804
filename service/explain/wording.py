"""How reasons are said, by language: the model's sentence with its frame, and the sentences that
need no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.schema import Candidate, Item, Recent

NAME = 120
"""Characters of a title in a sentence."""
VALUE = 60
"""Characters of an attribute's value that can be said in one."""


@dataclass(frozen=True)
class Language:
    """`quoted`, `inner`: a title, and what stands for its own quotes in it; `both`: between two
    titles; `like`: around the model's clause, which begins with one of `verbs` and ends with
    `stop`; `line_tokens`: a clause's bound in tokens, by `longest` characters; `listed`: between
    attributes, and before the last; `shares`, `matches`, `speaks`, `origins`, `known`, `unseen`:
    sentences for where the model has nothing to say or may not; `too`: a sentence's end about what
    else speaks for the item."""

    quoted: str
    inner: tuple[str, str]
    both: str
    like: str
    verbs: tuple[str, ...]
    gap: str
    stop: str
    pauses: str
    shortest: int
    longest: int
    line_tokens: int
    listed: tuple[str, str]
    shares: str
    matches: str
    speaks: str
    too: str
    origins: Mapping[str, str]
    known: str
    unseen: str

    def titles(self, items: Sequence[Item]) -> str:
        return self.both.join(self.title(item) for item in items)

    def title(self, item: Item) -> str:
        return self.quoted.format(name(item).translate(str.maketrans(*self.inner)))

    def sentence(self, cited: Sequence[Item], clause: str, more: Sequence[Item]) -> str:
        """`more`: items that speak for the chosen one beside those that the clause is about."""
        return self._ended(self.like.format(titles=self.titles(cited), why=clause), more)

    def _ended(self, sentence: str, more: Sequence[Item]) -> str:
        return (
            sentence.removesuffix(self.stop) + self.too.format(titles=self.titles(more))
            if more
            else sentence
        )

    def rule(self) -> str:
        """The clause for llguidance: bounded, on one line, without labels, quotes or a second
        sentence's end."""
        inside = f'[^\\n\\[\\]"{"." if self.stop == "." else "。!?《》“”"}]'
        size = f"{{{self.shortest},{self.longest}}}"
        return f"/({'|'.join(self.verbs)}){self.gap}{inside}{size}{re.escape(self.stop)}/"

    def finished(self, clause: str) -> str:
        """A whole clause; one that ran into the length bound ends at its last pause, another is
        dropped: empty."""
        if not clause.startswith(tuple(verb + self.gap for verb in self.verbs)):
            return ""
        if len(clause) < self.longest:
            return clause if clause.endswith(self.stop) else ""
        last = max(map(clause.rfind, self.pauses))
        return f"{clause[:last]}{self.stop}" if last > 0 else ""

    def shared(self, common: Sequence[str], entry: Recent, item: Item, more: Sequence[Item]) -> str:
        """`common`: what the chosen item shares with an entry's `item`."""
        value = "" if entry.event.value is None else f" {entry.event.value:g}"
        sentence = self.shares.format(
            what=self._list(common), title=self.title(item), verb=entry.verb, value=value
        )
        return self._ended(sentence, more)

    def matched(self, wished: Sequence[str], more: Sequence[Item]) -> str:
        """`wished`: what the chosen item has of what they asked for."""
        return self._ended(self.matches.format(what=self._list(wished)), more)

    def _list(self, values: Sequence[str]) -> str:
        comma, last = self.listed
        return last.join([comma.join(values[:-1]), values[-1]] if len(values) > 1 else values)

    def origin(self, candidate: Candidate) -> str:
        """What brought a candidate here; empty where no source did. In a list that the caller gives
        a source names every item, however far from what it looks for: the sentence says by what it
        was ranked, not that it fits."""
        return next(
            (text for source, text in self.origins.items() if source in candidate.sources), ""
        )


ENGLISH = Language(
    quoted='"{}"',
    inner=('"“”', "'''"),
    both=" and ",
    like="Like {titles}, it {why}",
    verbs=("is", "has", "mixes", "shares", "offers"),
    gap=" ",
    stop=".",
    pauses=",",
    shortest=12,
    longest=100,
    line_tokens=60,
    listed=(", ", " and "),
    shares="Shares {what} with {title}, which you {verb}{value}.",
    matches="Matches what you asked for: {what}.",
    speaks="Your liking of {titles} speaks most for it.",
    too="; your liking of {titles} speaks for it too.",
    origins={
        "query": "Ranked by how close it is to what you asked for.",
        "context": "Ranked by how close it is to what you are looking at.",
        "similar": "Ranked by how close in content it is to what you liked.",
        "collaborative": "Ranked by the taste of people who like what you like.",
        "popular": "Popular with others.",
    },
    known="You know it already.",
    unseen="Not seen by you yet.",
)
CHINESE = Language(
    quoted="《{}》",
    inner=("《》", "〈〉"),
    both="和",
    like="和{titles}一样,它{why}",
    verbs=("也是", "是", "也有", "有", "融合了", "带有", "充满"),
    gap="",
    stop="。",
    pauses=",、",
    shortest=2,
    longest=40,
    line_tokens=120,
    listed=("、", "、"),
    shares="与你喜欢的{title}有共同点:{what}。",
    matches="符合你的要求:{what}。",
    speaks="最支持这个推荐的,是你对{titles}的喜欢。",
    too=";你对{titles}的喜欢也支持这个推荐。",
    origins={
        "query": "按与你的要求的接近程度排列。",
        "context": "按与你正在看的内容的接近程度排列。",
        "similar": "按与你喜欢的内容的接近程度排列。",
        "collaborative": "按和你喜好相同的人的口味排列。",
        "popular": "很受其他人欢迎。",
    },
    known="你已经知道它。",
    unseen="你还没有看过。",
)
LANGUAGES = {"zh": CHINESE}


def spoken(prompt_id: str) -> Language:
    """That of a prompt: of `movies/explain.zh` Chinese, of one without a language or in one that is
    not here English."""
    return LANGUAGES.get(prompt_id.partition(".")[2].split("-")[0].lower(), ENGLISH)


def name(item: Item) -> str:
    """An item's title as a reader may see it, else how its text begins; may be empty."""
    said = visible(item.title) or visible(item.text[: 4 * NAME])
    return said if len(said) <= NAME else f"{said[: NAME - 1].rstrip()}…"


def visible(text: str) -> str:
    """On one line, without characters that can't be seen."""
    return " ".join(
        "".join(
            " " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text
        ).split()
    )
