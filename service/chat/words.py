"""The sentences around picks and checked reasons, in English and Chinese."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.schema import Item

TITLE = 120
"""Longest title in a sentence, in characters."""


def shown(title: str) -> str:
    """A title as it stands in an answer: on one line, without characters that can't be seen, and
    with those escaped that could be taken for markup."""
    line = " ".join("".join(char if char.isprintable() else " " for char in title).split())
    return re.sub(r"([\\*`\[\]<])", r"\\\1", line[:TITLE]) or "untitled"


def plain(title: str) -> str:
    """Undoes the escapes of `shown`."""
    return re.sub(r"\\(.)", r"\1", title)


@dataclass(frozen=True)
class Words:
    """The sentences of one language.

    `picks`, `wish`, `rejected`: what the list is for. `seen`, `disliked`, `avoided`, `left_out`:
    remarks that were heeded. `dropped`, `nothing`: no item fits. `which`: asks which pick is meant.
    `hello`, `welcome`, `offtopic`: answers to what is no wish. `moved`: more evidence. `quoted`: a
    title; `comma`: between titles.
    """

    picks: str
    wish: str
    rejected: str
    seen: str
    disliked: str
    avoided: str
    left_out: str
    dropped: str
    nothing: str
    which: str
    hello: str
    welcome: str
    offtopic: str
    moved: str
    quoted: str
    comma: str

    def titles(self, items: Sequence[Item]) -> str:
        """The items' titles in quotes, as a list."""
        return self.comma.join(self.quoted.format(shown(item.title)) for item in items)


ENGLISH = Words(
    picks="Here is what I would pick for you:",
    wish="For “{wish}”, I would pick:",
    rejected="Something else, then:",
    seen="Noted: you know {titles}.",
    disliked="Noted: {titles} is not for you.",
    avoided="Noted: no {topics} from now on.",
    left_out="I leave out {topics} here.",
    dropped="Nothing here fits all of that, so I looked for what comes close.",
    nothing="I found nothing that fits. Tell me more about what you would like.",
    which="Which one do you mean? Tell me its number in my last list.",
    hello=(
        "Hello! Tell me what you are in the mood for, what you know already or don't like, "
        "and I will pick for you."
    ),
    welcome="You are welcome. Come back any time for more.",
    offtopic="I can only help you choose something here. Tell me what you are in the mood for.",
    moved="What also speaks for it: {titles}.",
    quoted="“{}”",
    comma=", ",
)
CHINESE = Words(
    picks="我为你挑选了:",
    wish="按“{wish}”,我会选:",
    rejected="那换一些:",
    seen="记下了:你看过{titles}。",
    disliked="记下了:{titles}不合你的口味。",
    avoided="记下了:以后不再推荐{topics}。",
    left_out="这里不再推荐{topics}。",
    dropped="没有完全符合的,以下比较接近:",
    nothing="没有找到合适的。请再说说你想要什么。",
    which="你指的是哪一个?请告诉我它在上一个列表里的编号。",
    hello="你好!告诉我你现在想要什么、看过什么、不喜欢什么,我来为你挑选。",
    welcome="不客气,随时再来找我。",
    offtopic="我只能帮你在这里挑选。告诉我你现在想要什么。",
    moved="也支持它的:{titles}。",
    quoted="《{}》",
    comma="、",
)


def spoken(locale: str | None, turn: str) -> Words:
    """The sentences for a locale; without one, for the script of the last turn."""
    if locale is not None:
        return CHINESE if locale.lower().startswith("zh") else ENGLISH
    return CHINESE if re.search(r"[\u4e00-\u9fff]", turn) else ENGLISH
