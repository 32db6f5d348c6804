"""The llguidance grammar of a model's line on one item: it can only say what its facts hold, each
value once, linked as the language links such values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from service.explain.check import Fact
from service.explain.language import Language

SAID = 3
"""Most values of attributes in a clause."""


@dataclass(frozen=True)
class _Word:
    """A value that a clause may say. `led`: it with the words that introduce it, empty if it stands
    bare; `kind`: the words that introduce it, without it; `shared`: one such must be said."""

    bare: str
    led: Sequence[str]
    kind: str
    shared: bool


def grammar(facts: Sequence[Fact], choices: Sequence[tuple[int, ...]], language: Language) -> str:
    """The grammar of one item's line: the labels of one of the sets of facts (`choices`, numbers
    from 1), then a clause that says values of these facts, one that is shared among them, and ends
    with the phrase of the text, if one is cited."""
    starts, rules = [], list[str]()
    for n, numbers in enumerate(choices):
        cited = [facts[number - 1] for number in numbers]
        phrases = [fact.text for fact in cited if fact.kind == "text"]
        end = language.join + phrases[0] if phrases else ""
        starts.append(f'"[{_labels(numbers)}] " head{n} {_quoted(end + language.stop)}')
        rules += _head(f"head{n}", _words(cited), language)
    return "\n".join([f'start: "A " ({" | ".join(starts)})', *rules]) + "\n"


def _labels(numbers: Sequence[int]) -> str:
    """Facts by their numbers, as a line cites them."""
    return ",".join(f"f{number}" for number in numbers)


def _words(cited: Sequence[Fact]) -> list[_Word]:
    return [
        _Word(value, led, led[0].replace(value, "{}") if led else "", fact.kind == "shared")
        for fact in cited
        for value, led in zip(fact.values, fact.led, strict=False)
    ]


def _head(name: str, words: Sequence[_Word], language: Language) -> list[str]:
    """The rules for the values of a clause: one for each set of them that may have been said, and
    the one said last, as what may follow depends on it."""
    begun = f"({' | '.join(map(_quoted, language.starts))})"
    shared = {n for n, word in enumerate(words) if word.shared}
    rules: list[str] = []
    states: list[tuple[frozenset[int], int]] = [(frozenset(), -1)]
    for said, last in states:
        options = ['""'] if said and (not shared or said & shared) else []
        for n, word in enumerate(words) if len(said) < SAID else ():
            before = [words[one] for one in (*said - {last}, last)] if said else []
            ways = _ways(before, word, language) if n not in said else []
            if ways:
                state = said | {n}, n
                if state not in states:
                    states.append(state)
                forms = " | ".join(map(_quoted, ways))
                options.append(f"({forms}) {name}_{states.index(state)}")
        rules.append(f"{name}_{states.index((said, last))}: {' | '.join(options) or _quoted('')}")
    return [f"{name}: {begun} {name}_0", *rules]


def _ways(before: Sequence[_Word], word: _Word, language: Language) -> list[str]:
    """How a value may follow those said before it, of which the last stands last."""
    gap = " " if language.spaced else ""
    texts = [*word.led] or _articled(word.bare, language)
    if not before:
        return [gap + text for text in texts]
    last = before[-1]
    if language.spaced and not word.led and any(one.led for one in before):
        return []  # else "good for tea and kettle" would be good for a kettle
    apart = not language.spaced or word.kind != last.kind
    ways = [pause + text for pause in language.pauses if apart for text in texts]
    if word.kind == last.kind:  # what introduces both is said once, if it stands before them
        joined = [word.bare] if word.kind.endswith("{}") else texts
        ways += [joint + text for joint in language.joints for text in joined]
    if language.spaced:
        adjacent = texts if word.led or (len(before) == 1 and not last.led) else []
        return ways + [gap + text for text in adjacent]
    attached = [text for text in texts if not word.led or text.startswith(word.bare)]
    attached = attached if last.led else []
    return ways + [attached_by + text for attached_by in language.attaches for text in attached]


def _articled(value: str, language: Language) -> list[str]:
    """A bare value as it may stand in a clause: in English in small letters, unless it is a name of
    several words; with each article, in the plural without one."""
    small = (language.code == "en" and value != value.title()) or " " not in value
    forms = [value.lower() if language.code == "en" and small else value]
    if not language.spaced or value.endswith("s"):
        return forms
    articles = language.articles
    if language.code == "en":
        articles = ["an "] if value[:1].casefold() in "aeio" else ["a "]
    return [*forms, *(article + form for article in articles for form in forms)]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
