"""What a reason may say of a chosen item, strongest first: what it is, in its attributes and in
the words of its text, and what links it to the person or to others."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from service.catalog import asked_terms, terms_of
from service.explain.grounds import Grounds, Link, links, words
from service.explain.language import Language
from service.language import language_of
from service.prompts import harmless, visible
from service.schema import Candidate, Fact, Item, Recent, UserState

OWN = 2
"""Most attribute values that a sentence tells of an item beside those that it shares."""
SHARED = 2
"""Most shared values that a sentence names."""
READ = 1_500
"""How many characters of an item's text are read."""
CHUNKS = 6
"""Most phrases of an item's text that a model may choose from."""
LENGTHS = (4, 11)
"""Least and most words of such a phrase."""
CHARACTERS = (6, 24)
"""The same in characters, where spaces don't part words."""
SEARCHES = 3
"""How many of the last searches may be cited."""

_ORDERS = re.compile(
    r"ignor[ei]|instruct|prompt|system\b|assistant|language model|\bAI\b|output|respond|answer|"
    r"\bsay\b|\bwrite\b|\brank|candidate|\bprint\b|you (?:must|are|should|will)|always|"
    r"never say|developer|the user|label|anweisung|antworte|schreib|ignora|escribe|réponds|"
    r"écri[st]|忽略|指令|提示词|系统|助手|语言模型|必须|请(?:说|写|输出|回答)|输出|回答|"
    r"^\W*(?:finish|end|begin|start|add|append|mention|tell|repeat|call|describe|recommend|forget|"
    r"disregard|reply|translate|put|include|use|reveal|replace|pretend|act|let|make|note|remember)\b|"
    r"\b(?:sentence|reason|clause|line|text|word)s? (?:must|should|has to|have to|begins?|ends?)\b|"
    r"排在|候选|句子|结尾|开头|理由|重复|加上|告诉|無視|指示|出力|答え|[<>{}\[\]|`\\]|https?:|www\.",
    re.IGNORECASE,
)
"""What sounds like an order to a model, or belongs to a markup. No reason takes words from it."""
_DANGLING = re.compile(
    r"\bsame\b|\bhalf the\b|\bnot$|\bgleiche|\bmism[oa]|\bmême|同款|同样|一半|同じ", re.IGNORECASE
)
"""What says nothing without the sentence before."""
_SENTENCES = re.compile(r"(?<=[.!?])\s+|[。!?!?\n]+")
_PAUSES = re.compile(r"\s*(?:[;:–—()，、；：;]|(?<!\d)[,:,]|[,:,](?!\d))\s*")


@dataclass(frozen=True)
class Sayable:
    """What a reason may say of an item. `link`: the person's deed that it has most in common with;
    `draws`: by the ids of all items that are related to it, how much they draw it;
    `shared`: of what they share, what a sentence names; `own`: other attribute values of the item,
    the rarest first; `chunks`: phrases of its text in the language of the reason, whole from one
    pause to another; `asked`: a value of the item that the person asks for; `search`: a search
    of the person that the item answers; `origin`: which source found the item, else whether the
    person knows it."""

    item: Item
    link: Link | None
    draws: Mapping[str, float]
    shared: Sequence[Fact]
    own: Sequence[Fact]
    chunks: Sequence[str]
    asked: str = ""
    search: Recent | None = None
    origin: str = "unseen"


def told(
    candidate: Candidate,
    state: UserState,
    grounds: Grounds,
    language: Language,
    asked_for: Collection[str],
) -> Sayable:
    """Collects what may be said of a chosen item. `asked_for`: values that the person asks for."""
    item = candidate.item
    found = links(item, state, grounds)
    link = next(iter(found), None)
    shared = list(link.shared[:SHARED]) if link is not None else []
    asked = next((str(value) for _, value in words(item) if value in asked_for), "")
    named = {asked, *(value for _, value in shared)}
    # what reads as an order is no fact, however true it is that it stands there
    facts = [fact for fact in words(item) if fact[1] not in named and sound(str(fact[1]))]
    years = [fact for fact in item.facts() if fact[0] == "year"]
    own = sorted(facts, key=lambda fact: -grounds.rarity(fact))[:OWN]
    own = [*own[: OWN - len(years[:1])], *years[:1]] if own or years else []
    return Sayable(
        item,
        link,
        {one.item.id: round(one.strength, 4) for one in found},
        [fact for fact in shared if sound(str(fact[1]))],
        own,
        chunks(item, language),
        asked,
        _search(item, state),
        origin(candidate, state.seen),
    )


def sound(text: str) -> bool:
    """Whether a text holds nothing that sounds like an order to a model."""
    return text == harmless(text) and not _ORDERS.search(text)


def chunks(item: Item, language: Language) -> list[str]:
    """Phrases of an item's text in a language, each whole from one pause of a sentence to another,
    so that what is negated stays so."""
    found: list[str] = []
    for sentence in _SENTENCES.split(visible_lines(item.text[:READ])):
        if not sound(sentence.strip().replace('"', "'")) or language_of(sentence) != language.code:
            continue
        parts = [part.strip(" .'") for part in _PAUSES.split(sentence.strip())]
        marks = _PAUSES.findall(sentence.strip())
        for first in range(min(len(parts), 3)):
            text = ""
            for n in range(first, len(parts)):
                text += (marks[n - 1] if n > first else "") + parts[n]
                if _fits(text, language) and text not in found:
                    found.append(text)
        if len(found) >= CHUNKS:
            break
    return found[:CHUNKS]


def visible_lines(text: str) -> str:
    """A text without characters that can't be seen; its lines stay."""
    return "\n".join(map(visible, text.splitlines()))


def _fits(text: str, language: Language) -> bool:
    """Whether a phrase may stand in a reason: as long as `LENGTHS`, and not begun in the middle of
    a thought."""
    if re.search(r"[\"“”«»《》「」/=*#_~]|\.$", text) or _DANGLING.search(text):
        return False
    if not language.spaced:
        return CHARACTERS[0] <= len(text) <= CHARACTERS[1] and not any(
            text.startswith(word) for word in language.connectives
        )
    parts = text.split()
    return (
        LENGTHS[0] <= len(parts) <= LENGTHS[1]
        and parts[0].casefold() not in language.connectives
        and parts[-1].casefold() not in language.function
    )


def _search(item: Item, state: UserState) -> Recent | None:
    """The latest of the person's searches that the item answers: it holds most of its words."""
    searches = [entry for entry in state.recent if entry.item is None and entry.event.text]
    if not searches:
        return None
    values = " ".join(str(value) for _, value in item.facts())
    held = set(terms_of(f"{item.title} {values} {item.text[:READ]}"))
    for entry in reversed(searches[-SEARCHES:]):
        terms = asked_terms(entry.event.text or "")
        if terms and sound(entry.event.text or "") and len(held & set(terms)) > 0.6 * len(terms):
            return entry
    return None


def origin(candidate: Candidate, known: Collection[str]) -> str:
    """The source in which the candidate stood highest; `known` or `unseen` if none found it."""
    if candidate.sources:
        return min(candidate.sources, key=lambda name: (candidate.sources[name], name))
    return "known" if candidate.item.id in known else "unseen"
