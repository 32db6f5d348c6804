"""Sentences of reasons in each language: the frame around a model's clause, and the templates."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.prompts import visible
from service.schema import Candidate, Item, Recent

NAME = 120
"""Longest title in a sentence, in characters."""
VALUE = 60
"""Longest attribute value in a sentence, in characters."""


@dataclass(frozen=True)
class Language:
    """The words of one language.

    Titles: `quoted` is the pair of quotes around one; `inner` replaces those quotes within it
    (from, to); `both` stands between two titles.

    The model's clause: `like` is the frame around it. It begins with one of `verbs` and `gap`, is
    `shortest` to `longest` characters long or at most `line_tokens` tokens, and ends with `stop`;
    one that is too long is cut at one of `pauses`.

    Templates: `listed` stands between values, and before the last. `shares`, `matches`, `speaks`,
    `origins`, `known` and `unseen` are sentences of their own; `too` ends a sentence with further
    liked items as evidence.
    """

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
        """The items' titles, quoted and joined."""
        return self.both.join(self.title(item) for item in items)

    def title(self, item: Item) -> str:
        """An item's title, quoted."""
        return self.quoted.format(name(item).translate(str.maketrans(*self.inner)))

    def sentence(self, cited: Sequence[Item], clause: str, others: Sequence[Item]) -> str:
        """Puts the model's clause into its frame. `cited`: the liked items that it is about;
        `others`: more liked items that are evidence."""
        return self._with_others(self.like.format(titles=self.titles(cited), why=clause), others)

    def _with_others(self, sentence: str, others: Sequence[Item]) -> str:
        """The sentence, ending with the other liked items if there are any."""
        if not others:
            return sentence
        return sentence.removesuffix(self.stop) + self.too.format(titles=self.titles(others))

    def rule(self) -> str:
        """The llguidance pattern of a clause: of bounded length, on one line, without labels,
        quotes or a second sentence."""
        inside = f'[^\\n\\[\\]"{"." if self.stop == "." else "。!?《》“”"}]'
        size = f"{{{self.shortest},{self.longest}}}"
        return f"/({'|'.join(self.verbs)}){self.gap}{inside}{size}{re.escape(self.stop)}/"

    def finished(self, clause: str) -> str:
        """A model's clause ready to be shown. One that was cut at the length limit ends at its last
        pause; any other incomplete clause becomes empty."""
        if not clause.startswith(tuple(verb + self.gap for verb in self.verbs)):
            return ""
        if len(clause) < self.longest:
            return clause if clause.endswith(self.stop) else ""
        last = max(map(clause.rfind, self.pauses))
        return f"{clause[:last]}{self.stop}" if last > 0 else ""

    def shared(
        self, common: Sequence[str], entry: Recent, item: Item, others: Sequence[Item]
    ) -> str:
        """Says what the chosen item shares with a liked one. `common`: the shared values; `item`:
        the liked item; `entry`: its event; `others`: as in `sentence`."""
        value = "" if entry.event.value is None else f" {entry.event.value:g}"
        return self._with_others(
            self.shares.format(
                what=self._list(common), title=self.title(item), verb=entry.verb, value=value
            ),
            others,
        )

    def matched(self, wished: Sequence[str], others: Sequence[Item]) -> str:
        """Says which of the wished attributes the chosen item has. `others`: as in `sentence`."""
        return self._with_others(self.matches.format(what=self._list(wished)), others)

    def _list(self, values: Sequence[str]) -> str:
        comma, last = self.listed
        return last.join([comma.join(values[:-1]), values[-1]] if len(values) > 1 else values)

    def origin(self, candidate: Candidate, *, known: bool) -> str:
        """Says which source found the candidate; if none did, whether the person knows it.

        It doesn't say that the item fits: in a list that the caller gives, a source ranks every
        item, however far it is from what the source looks for.
        """
        found = (text for source, text in self.origins.items() if source in candidate.sources)
        return next(found, self.known if known else self.unseen)


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
        "lexical": "Ranked by the words that it shares with what you liked.",
        "similar": "Ranked by how close in content it is to what you liked.",
        "closest": "Ranked by how close in content it is to one thing that you liked.",
        "sequence": "Ranked by what people liked after what you liked last.",
        "item_item": "Ranked by how often it is liked together with what you liked.",
        "collaborative": "Ranked by the taste of people who like what you like.",
        "popular": "Popular with others.",
        "trending": "Liked more lately than before.",
        "fresh": "Published lately.",
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
        "lexical": "按与你喜欢的内容共有的词语排列。",
        "similar": "按与你喜欢的内容的接近程度排列。",
        "closest": "按与你喜欢的某一内容的接近程度排列。",
        "sequence": "按人们在喜欢你最近喜欢的内容之后喜欢什么来排列。",
        "item_item": "按与你喜欢的内容一起被喜欢的次数排列。",
        "collaborative": "按和你喜好相同的人的口味排列。",
        "popular": "很受其他人欢迎。",
        "trending": "最近比以前更受欢迎。",
        "fresh": "最近发布。",
    },
    known="你已经知道它。",
    unseen="你还没有看过。",
)


def spoken(prompt_id: str) -> Language:
    """The language of a prompt by its id: Chinese for `movies/explain.zh`; English otherwise."""
    locale = prompt_id.partition(".")[2].lower()
    return CHINESE if locale.split("-")[0] == "zh" else ENGLISH


def name(item: Item) -> str:
    """An item's title as a reader may see it, else the beginning of its text; may be empty."""
    full = visible(item.title) or visible(item.text[: 4 * NAME])
    return full if len(full) <= NAME else f"{full[: NAME - 1].rstrip()}…"
