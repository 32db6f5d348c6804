"""The model writes all candidates' letters, best first. A grammar allows nothing but a permutation.

A model that no grammar binds writes them as JSON, or in words. What is not a permutation is
repaired, and the repairs are counted.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from service.errors import InvalidOutput
from service.llm.asking import ask
from service.prompts import LETTERS
from service.rank import Context, Scores, StrategySpec
from service.rank.ask import (
    AskingStrategy,
    averaged,
    json_in,
    place_of,
    prompted,
    question,
)
from service.schema import Candidate, Repairs, Usage, UserState


class Listwise(AskingStrategy):
    """Costs one output token for each candidate and ordering; as JSON about four. Of K candidates
    the first scores K − 1, the last 0; scores are averaged over the orderings (Borda)."""

    name = "listwise"

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        count = len(candidates)

        async def ask_in(shown: list[Candidate]) -> Scores:
            if self._held.grammar:
                call = question(state, shown, context, "order", 2 * count + 8)
                answer = await ask(self._llm, replace(call, grammar=permutation(count)))
                slots, repairs = parse(answer.text, count)
            else:
                call = question(state, shown, context, "order as JSON", 6 * count + 24)
                answer = await self._shaped(call, schema(count))
                slots, repairs = repaired(letters(answer.text), count)
            return Scores([count - 1.0 - slots.index(slot) for slot in range(count)], repairs)

        return await averaged(candidates, range(context.orderings), ask_in)

    def tokens(self, count: int, context: Context) -> Usage:
        return prompted(count, count if self._held.grammar else 4 * count, context)


@cache
def permutation(count: int) -> str:
    """A grammar (llguidance, Lark with a 64-bit state) for `count` letters, each exactly once,
    separated by spaces. The state has a bit for each letter that was written."""
    letters = LETTERS[:count]
    first = " | ".join(f'"{letter}" rest::set_bit({n})' for n, letter in enumerate(letters))
    later = " | ".join(
        f'" {letter}" rest::set_bit({n}) %if bit_clear({n})' for n, letter in enumerate(letters)
    )
    return (
        f'start: first::0x0\nfirst::_: {first}\nrest::_: "" %if '
        f"bit_count_eq([0:{count}],{count}) | {later}\n"
    )


@cache
def schema(count: int) -> dict[str, Any]:
    """A JSON schema for a list of letters. It says nothing about their number or repetition: hosted
    models refuse schemas that do."""
    letters = {"type": "array", "items": {"type": "string", "enum": list(LETTERS[:count])}}
    return {
        "type": "object",
        "properties": {"order": letters},
        "required": ["order"],
        "additionalProperties": False,
    }


def letters(text: str) -> list[str]:
    """Returns the letters that an answer lists: those of its JSON list, even if that is cut off;
    without one, the letters that stand alone in its text, except "I" and "A" before a lower-case
    word."""
    listed = json_in(text, "[]")
    if listed is not None:
        return [str(letter).strip() for letter in listed]
    return re.findall(r"(?<![\w'’])([B-HJ-Z]|[AI](?!\s[a-z]))(?![\w'’])", text)


def parse(text: str, count: int) -> tuple[list[int], Repairs]:
    """Splits a text of letters separated by spaces; returns and raises what `repaired` does."""
    return repaired(text.split(), count)


def repaired(words: Sequence[str], count: int) -> tuple[list[int], Repairs]:
    """A permutation of range(count) from the model's letters. Unknown and repeated letters are
    dropped, missing ones are appended in prior order, and each is counted. Raises `InvalidOutput`
    if fewer than half of the letters are there."""
    order: list[int] = []
    duplicate = unknown = 0
    for word in words:
        place = place_of(word)
        if not 0 <= place < count:
            unknown += 1
        elif place in order:
            duplicate += 1
        else:
            order.append(place)
    if 2 * len(order) < count:
        raise InvalidOutput(f"{len(order)} of {count} letters in {' '.join(words)[:80]!r}")
    missing = [place for place in range(count) if place not in order]
    return order + missing, Repairs(missing=len(missing), duplicate=duplicate, unknown=unknown)


SPEC = StrategySpec("listwise", needs=lambda able: True, answer="order", make=Listwise)
"""Any model can run it: the order can be asked for in words, and a faulty answer is repaired."""
