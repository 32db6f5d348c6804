"""The model writes all candidates' letters, best first; a grammar makes anything but a permutation
impossible.

A model that no grammar binds writes them as JSON, or as it likes: what is not a permutation is
mended, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic_core import from_json

from service.errors import InvalidOutput
from service.prompts import LETTERS
from service.rank import Context, Scores
from service.rank.ask import AskingStrategy, PromptQuestion, ask, averaged, prompted
from service.rank.spec import StrategySpec
from service.schema import Candidate, Repairs, Usage, UserState


class Listwise(AskingStrategy):
    """One output token a candidate and ordering; as JSON about four. Scores are places counted from
    the end, K − 1 for the first, 0 for the last, averaged over the orderings (Borda)."""

    name = "listwise"

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        count, question = (
            len(candidates),
            PromptQuestion(state, context, "order" if self._held.grammar else "order as JSON"),
        )

        async def one(order: list[int]) -> Scores:
            shown = [candidates[place] for place in order]
            if self._held.grammar:
                answer = await ask(
                    self._llm,
                    replace(question.call(shown, 2 * count + 8), grammar=permutation(count)),
                )
                slots, repairs = parse(answer.text, count)
            else:
                answer = await self._shaped(question.call(shown, 6 * count + 24), schema(count))
                slots, repairs = mended(letters(answer.text), count)
            values = [0.0] * count
            for place, slot in enumerate(slots):
                values[slot] = float(count - 1 - place)
            return Scores(values, answer.usage, repairs)

        return await averaged(count, range(context.orderings), one)

    def tokens(self, count: int, context: Context) -> Usage:
        return prompted(count, count if self._held.grammar else 4 * count, context)


@cache
def permutation(count: int) -> str:
    """A grammar (llguidance, Lark with a 64-bit state) of `count` letters, each exactly once,
    separated by spaces."""
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
    """Nothing about numbers or repetition: hosted models refuse such schemas."""
    one = {"type": "string", "enum": list(LETTERS[:count])}
    order = {"type": "array", "items": one}
    return {
        "type": "object",
        "properties": {"order": order},
        "required": ["order"],
        "additionalProperties": False,
    }


def letters(text: str) -> list[str]:
    """What an answer lists: of JSON its list, whole or cut; of prose the letters that stand alone,
    which "I" and "A" before a small letter don't."""
    start = text.find("[")
    if start >= 0:
        for end in (len(text), text.find("]", start) + 1):
            try:
                found = from_json(
                    text[start:end].encode(errors="replace"), allow_partial="trailing-strings"
                )
            except ValueError:
                continue
            if isinstance(found, list):
                return [str(one).strip() for one in found]
    return re.findall(r"(?<![\w'’])([B-HJ-Z]|[AI](?!\s[a-z]))(?![\w'’])", text)


def parse(text: str, count: int) -> tuple[list[int], Repairs]:
    """Of letters separated by spaces."""
    return mended(text.split(), count)


def mended(words: Sequence[str], count: int) -> tuple[list[int], Repairs]:
    """A permutation of range(count) from the model's letters. Unknown and repeated letters are
    dropped, missing ones appended in prior order, each counted. Raises `InvalidOutput` when fewer
    than half of the letters are there."""
    order: list[int] = []
    duplicate = unknown = 0
    for word in words:
        place = LETTERS.find(word) if len(word) == 1 else -1
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
"""Any model can: it can be asked for an order in words, and what it writes is mended."""
