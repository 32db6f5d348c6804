"""What is answered in words of ours, around picks and checked reasons."""

from collections.abc import Mapping, Sequence

from service.chat.kinds import Kind
from service.chat.patterns import REJECTION, THANKS
from service.chat.reading import Talk
from service.chat.words import Words, shown
from service.schema import Event, Item, Ranked

ABOUT = 400
"""How many characters of an item's text are quoted."""
MOVED = 2
"""How many of the person's own items are named as what moved a pick."""
QUOTED = 8
"""A wish of more words than this is not repeated."""


def opening(talk: Talk, words: Words, noted: Sequence[Event]) -> str:
    """What comes before the picks: which remarks became events, which are heeded here only, and
    what the picks are for."""
    events = {(event.type, event.item_id, event.text or "") for event in noted}
    kept = [remark for remark in talk.said if (remark.kind, remark.about, remark.topic) in events]
    items = {
        kind: [remark.item for remark in kept if remark.kind == kind and remark.item is not None]
        for kind in ("seen", "dislike")
    }
    topics = [remark.topic for remark in kept if remark.topic]
    here_only = [
        remark.topic or words.titles([remark.item] if remark.item is not None else [])
        for remark in talk.said
        if remark not in kept
    ]
    sentences = [
        sentence.format(titles=words.titles(items[kind]))
        for kind, sentence in (("seen", words.seen), ("dislike", words.disliked))
        if items[kind]
    ]
    sentences += [words.avoided.format(topics=words.comma.join(topics))] if topics else []
    sentences += [words.left_out.format(topics=words.comma.join(here_only))] if here_only else []
    if sentences:
        return " ".join([*sentences, words.picks])
    wish = talk.wishes[-1] if talk.wishes else ""
    if REJECTION.search(talk.turn) and len(wish.split()) < 3:
        return words.rejected
    if not wish or len(wish.split()) > QUOTED:
        return words.picks
    return words.wish.format(wish=shown(wish).rstrip("?.! "))


def answered(talk: Talk, kind: Kind, words: Words) -> str:
    """The answer to a turn that wishes and asks nothing of the catalogue."""
    if kind == "offtopic":
        return words.offtopic
    return words.welcome if THANKS.search(talk.turn) else words.hello


def described(item: Item, words: Words) -> str:
    """What the catalogue knows of an item."""
    facts = words.comma.join(dict.fromkeys(str(value) for _, value in item.facts()))
    text = " ".join(item.text.split())[:ABOUT]
    return (
        f"**{shown(item.title)}**" + (f": {facts}" if facts else "") + (f". {text}" if text else "")
    )


def justified(item: Item, row: Ranked, moved: Mapping[str, Item], words: Words) -> str:
    """Why an item was picked: its reason, and the person's own items that moved it most beside
    those. `moved`: these items by id."""
    nats = row.attribution
    ids = sorted((id_ for id_ in nats if nats[id_] > 0), key=lambda id_: -nats[id_])
    beside = [moved[id_] for id_ in ids if id_ in moved and id_ not in row.evidence][:MOVED]
    sentences = [words.moved.format(titles=words.titles(beside))] if beside else []
    return f"**{shown(item.title)}**: " + " ".join([row.reason or "", *sentences]).strip()
