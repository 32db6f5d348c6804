"""Asks a model what a wish means where the rules don't account for every word: under a grammar of
the catalogue's own values, or of one value that is named."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from service.context import CallContext
from service.llm import Call
from service.prompts import Prompt
from service.schema import LONGEST_INSTRUCTION

LISTED = 3
"""Most values that a model may name as wanted, or as not wanted."""
KINDS = ("wish", "why", "about", "smalltalk", "other")
"""What a turn of a conversation may be, as the model is asked."""
ANSWERS = ("wanted", "un")
"""What the two answers to a doubt begin with."""
SURE = -0.5
"""A model's log-odds of "wanted" below which a named value is taken for refused. Of 98 wishes for a
value in seven languages 2 lie below it with the 1.5B model, of 98 against one 82."""
_CHOOSABLE = re.compile(r"[\w '&-]{2,40}")


def choosable(values: Mapping[str, Sequence[str]]) -> list[str]:
    """The catalogue's values that a model may choose from: those that can stand in a grammar and in
    a list."""
    return list(
        dict.fromkeys(
            value
            for listed in values.values()
            for value in listed
            if _CHOOSABLE.fullmatch(value) and not value.isdigit()
        )
    )


def grammar(values: Sequence[str]) -> str:
    """A grammar (llguidance) of three lines: which kind of thing is said, the values that are
    wanted, and those that are not; each list has at most `LISTED` values, or is "none"."""
    kinds = " | ".join(f'"{kind}"' for kind in KINDS)
    known = " | ".join(f'"{value}"' for value in values)
    more = " ".join(['(", " value)?'] * (LISTED - 1))
    return (
        'start: "kind: " kind "\\nwanted: " list "\\navoided: " list\n'
        f'kind: {kinds}\nlist: "none" | value {more}\nvalue: {known}\n'
    )


def question(
    prompt: Prompt, text: str, values: Sequence[str], *, constrained: bool, call: CallContext
) -> Call:
    """The call that asks a model what a text means. `text`: as the model may see it."""
    shown: dict[str, Any] = {
        "instruction": text[:LONGEST_INSTRUCTION],
        "values": ", ".join(values),
        "value": "",
    }
    return Call(
        prompt.render(shown),
        max_tokens=16 + 8 * 2 * LISTED,
        grammar=grammar(values) if constrained else None,
        temperature=prompt.sampling.temperature,
        context=call,
    )


def doubt(prompt: Prompt, text: str, value: str, ids: tuple[int, ...], call: CallContext) -> Call:
    """The call that asks a model whether a text wants a value that it names. `ids`: the tokens that
    `ANSWERS` begin with."""
    return Call(
        prompt.render({"instruction": text[:LONGEST_INSTRUCTION], "values": "", "value": value}),
        max_tokens=1,
        temperature=prompt.sampling.temperature,
        tokens=ids,
        context=call,
    )


def refutes(logs: Sequence[float]) -> bool:
    """Whether a model's answer to a doubt says surely that the value is not wanted."""
    return len(logs) == len(ANSWERS) and logs[0] - logs[1] < SURE


def answered(text: str, values: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Reads an answer: the kind of thing that is said, the wanted and the avoided values. What is
    no value is passed over."""
    spelled = {value.casefold(): value for value in values}
    parts = (line.partition(":") for line in text.splitlines())
    lines = {name.strip().casefold(): rest for name, mark, rest in parts if mark}

    def listed(name: str) -> list[str]:
        words = (part.strip(" .").casefold() for part in re.split("[,、,]", lines.get(name, "")))
        return list(dict.fromkeys(spelled[word] for word in words if word in spelled))[:LISTED]

    kind = lines.get("kind", "").strip(" .").casefold()
    avoided = listed("avoided")
    return (
        kind if kind in KINDS else "",
        [value for value in listed("wanted") if value not in avoided],
        avoided,
    )
