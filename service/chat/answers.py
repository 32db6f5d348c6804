"""Fixed phrases, in English and Chinese, that frame the picks and their checked reasons."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.chat.patterns import REJECTION, THANKS
from service.chat.picks import shown
from service.chat.reading import Kind, Talk
from service.schema import Event, Item, Ranked

ABOUT = 400
"""How many characters of an item's text are quoted."""
MOVED = 2
"""Most items of the person's history that an answer names as having raised a pick's score."""
QUOTED = 8
"""A wish of more words than this is not repeated in the answer."""


@dataclass(frozen=True)
class Words:
    """The sentences of one language.

    `picks`, `wish`, `rejected`: introduce the list. `seen`, `disliked`, `avoided`, `left_out`:
    acknowledge what the person said. `dropped`: says that no item fits all filters; `nothing`: that
    none was found. `which`: asks which pick is meant. `hello`, `welcome`, `offtopic`: answer turns
    that are no wishes. `moved`: names more items that speak for a pick. `quoted`: puts a title in
    quotes; `comma`: stands between titles.
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
    seen="Noted: you know {}.",
    disliked="Noted: {} is not for you.",
    avoided="Noted: no {} from now on.",
    left_out="I leave out {} here.",
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
    seen="记下了:你看过{}。",
    disliked="记下了:{}不合你的口味。",
    avoided="记下了:以后不再推荐{}。",
    left_out="这里不再推荐{}。",
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
    """Returns the sentences for `locale`; if it is None, those for the script of `turn`."""
    if locale is not None:
        return CHINESE if locale.lower().startswith("zh") else ENGLISH
    return CHINESE if re.search(r"[\u4e00-\u9fff]", turn) else ENGLISH


def opening(talk: Talk, words: Words, noted: Sequence[Event]) -> str:
    """Returns the text before the picks. It acknowledges the last turn's remarks: those stored as
    events (`noted`), and those heeded in this conversation only. Without remarks, it says what the
    picks are for."""
    events = {(event.type, event.item_id, event.text or "") for event in noted}
    kept = [remark for remark in talk.said if (remark.kind, remark.about, remark.topic) in events]
    items = {
        kind: [remark.item for remark in kept if remark.kind == kind and remark.item is not None]
        for kind in ("seen", "dislike")
    }
    here_only = [
        remark.topic or words.titles([remark.item] if remark.item is not None else [])
        for remark in talk.said
        if remark not in kept
    ]
    heeded = [
        (words.seen, words.titles(items["seen"])),
        (words.disliked, words.titles(items["dislike"])),
        (words.avoided, words.comma.join(remark.topic for remark in kept if remark.topic)),
        (words.left_out, words.comma.join(here_only)),
    ]
    sentences = [sentence.format(what) for sentence, what in heeded if what]
    if sentences:
        return " ".join([*sentences, words.picks])
    wish = talk.wishes[-1] if talk.wishes else ""
    if REJECTION.search(talk.turn) and len(wish.split()) < 3:
        return words.rejected
    if not wish or len(wish.split()) > QUOTED:
        return words.picks
    return words.wish.format(wish=shown(wish).rstrip("?.! "))


def answered(talk: Talk, kind: Kind, words: Words) -> str:
    """Returns the answer to a turn that is no wish and points to no pick."""
    return {
        "smalltalk": words.welcome if THANKS.search(talk.turn) else words.hello,
        "offtopic": words.offtopic,
    }.get(kind, words.which)


def described(item: Item, words: Words) -> str:
    """Returns a description of an item: its title, its facts, and at most `ABOUT` characters of its
    text."""
    facts = words.comma.join(dict.fromkeys(str(value) for _, value in item.facts()))
    text = " ".join(item.text.split())[:ABOUT]
    return (
        f"**{shown(item.title)}**" + (f": {facts}" if facts else "") + (f". {text}" if text else "")
    )


def justified(item: Item, row: Ranked, moved: Mapping[str, Item], words: Words) -> str:
    """Returns why an item was picked: its reason, and at most `MOVED` further items of the person's
    history that raised its score most. `moved`: the items of `row.attribution`, by id."""
    nats = row.attribution
    ids = sorted((id_ for id_ in nats if nats[id_] > 0), key=lambda id_: -nats[id_])
    beside = [moved[id_] for id_ in ids if id_ in moved and id_ not in row.evidence][:MOVED]
    sentences = [words.moved.format(titles=words.titles(beside))] if beside else []
    return f"**{shown(item.title)}**: " + " ".join([row.reason or "", *sentences]).strip()
