"""Fixed phrases that frame the picks and their checked reasons, read from `languages/*.yaml`, and
which language they are in."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files

import yaml

from service.chat.patterns import REJECTION, THANKS
from service.chat.picks import shown
from service.chat.reading import Kind, Talk
from service.language import language_of, tells_language
from service.schema import Event, Item, Ranked, Value

ABOUT = 400
"""How many characters of an item's text are quoted."""
MOVED = 2
"""Most items of the person's history that an answer names beside those that the reason cites."""
QUOTED = 8
"""A wish of more words than this is not repeated in the answer."""
GREETINGS = {
    "de": re.compile(r"\W*(?:hallo|guten|servus|moin|danke|tschüss)\b", re.IGNORECASE),
    "es": re.compile(r"\W*(?:hola|buen[oa]s|gracias|adiós)\b", re.IGNORECASE),
    "fr": re.compile(r"\W*(?:bonjour|bonsoir|salut|merci)\b", re.IGNORECASE),
}
"""By language: how a turn begins that is too short to tell its language otherwise."""


class Words(Value):
    """The sentences of one language.

    `picks`, `wish`, `rejected`: introduce the list. `seen`, `disliked`, `avoided`, `left_out`:
    acknowledge what the person said. `dropped`: says that no item fits all filters; `nothing`: that
    none was found. `which`: asks which pick is meant; `unshown`: says that none was shown yet.
    `hello`, `welcome`, `offtopic`: answer turns that are no wishes. `moved`: names more items that
    speak for a pick. `quoted`: puts a title in quotes; `comma`: stands between titles; `space`:
    between sentences."""

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
    unshown: str
    hello: str
    welcome: str
    offtopic: str
    moved: str
    quoted: str
    comma: str
    space: str

    def titles(self, items: Sequence[Item]) -> str:
        """The items' titles in quotes, as a list."""
        return self.comma.join(self.quoted.format(shown(item.title)) for item in items)


@lru_cache
def languages() -> Mapping[str, Words]:
    """The sentences of every language by its code."""
    folder = files("service.chat") / "languages"
    return {
        file.name.removesuffix(".yaml"): Words.model_validate(
            yaml.safe_load(file.read_text(encoding="utf-8"))
        )
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }


def spoken(locale: str | None) -> Words:
    """Returns the sentences for a locale such as `zh-CN`; English ones for a language that is not
    offered."""
    known = languages()
    return known.get(language(locale), known["en"])


def language(locale: str | None) -> str:
    """Returns the language of a locale; empty for none."""
    return (locale or "").partition("-")[0].lower()


def locale_for(turn: str, declared: str | None) -> str | None:
    """Returns the locale in which to answer a turn: its language, if that is offered and the turn
    says enough to tell; else the locale that the person declared."""
    if not tells_language(turn):
        greeting = next((code for code, words in GREETINGS.items() if words.match(turn)), None)
        return declared or greeting
    told = language_of(turn)
    alike = {"zh", "ja"} if told == "zh" else {told}  # Japanese may be in Chinese letters only
    if told not in languages() or language(declared) in alike:
        return declared
    return told


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
        return words.space.join([*sentences, words.picks])
    wish = talk.wishes[-1] if talk.wishes else ""
    if REJECTION.search(talk.turn) and len(wish.split()) < 3:
        return words.rejected
    if not wish or len(wish.split()) > QUOTED:
        return words.picks
    return words.wish.format(wish=shown(wish).lstrip("¿¡").rstrip("?.!？。！ "))


def answered(talk: Talk, kind: Kind, words: Words) -> str:
    """Returns the answer to a turn that is no wish and points to no pick."""
    if talk.unshown:
        return words.unshown
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
    history that draw it most. `moved`: the items of `row.attribution`, by id."""
    draws = row.attribution
    ids = sorted(draws, key=lambda item_id: -draws[item_id])
    beside = [moved[id_] for id_ in ids if id_ in moved and id_ not in row.evidence][:MOVED]
    sentences = [words.moved.format(titles=words.titles(beside))] if beside else []
    return f"**{shown(item.title)}**: " + words.space.join(filter(None, [row.reason, *sentences]))
