"""The model writes all candidates' letters, best first; a grammar makes anything but a permutation impossible."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from functools import cache

from service.errors import InvalidOutput, PromptError
from service.llm import LLM, Call
from service.prompts import LETTERS, variables
from service.rank import Context, Scores
from service.schema import Candidate, Repairs, Usage, UserState


class Listwise:
    """One output token a candidate. Scores are places counted from the end: K − 1 for the first, 0 for the last."""

    name = "listwise"

    def __init__(self, llm: LLM, weight: float) -> None:
        self._llm = llm
        self.model = llm.alias
        self.weight = weight

    async def score(self, state: UserState, candidates: Sequence[Candidate], context: Context) -> Scores:
        shown = variables(
            state,
            candidates,
            instruction=context.instruction,
            locale=context.locale,
            line_tokens=context.line_tokens,
        )
        try:
            messages = context.prompt.render(shown)
        except PromptError as error:
            raise InvalidOutput(error.message) from error
        call = Call(
            messages,
            max_tokens=2 * len(candidates) + 8,
            grammar=permutation(len(candidates)),
            temperature=context.prompt.sampling.temperature,
        )
        text, usage = "", Usage()
        async with aclosing(self._llm.stream(call)) as pieces:
            async for piece in pieces:
                text += piece.text
                usage = piece.usage or usage
        order, repairs = parse(text, len(candidates))
        values = [0.0] * len(candidates)
        for place, candidate in enumerate(order):
            values[candidate] = float(len(order) - 1 - place)
        return Scores(values, usage, repairs)


@cache
def permutation(count: int) -> str:
    """A grammar (llguidance, Lark with a 64-bit state) of `count` letters, each exactly once, separated by spaces."""
    letters = LETTERS[:count]
    first = " | ".join(f'"{letter}" rest::set_bit({n})' for n, letter in enumerate(letters))
    later = " | ".join(f'" {letter}" rest::set_bit({n}) %if bit_clear({n})' for n, letter in enumerate(letters))
    return f'start: first::0x0\nfirst::_: {first}\nrest::_: "" %if bit_count_eq([0:{count}],{count}) | {later}\n'


def parse(text: str, count: int) -> tuple[list[int], Repairs]:
    """A permutation of range(count) from the model's letters. Unknown and repeated letters are dropped, missing ones
    appended in prior order, each counted. Raises `InvalidOutput` when fewer than half of the letters are there."""
    order: list[int] = []
    duplicate = unknown = 0
    for word in text.split():
        place = LETTERS.find(word) if len(word) == 1 else -1
        if not 0 <= place < count:
            unknown += 1
        elif place in order:
            duplicate += 1
        else:
            order.append(place)
    if 2 * len(order) < count:
        raise InvalidOutput(f"{len(order)} of {count} letters in {text[:80]!r}")
    missing = [place for place in range(count) if place not in order]
    return order + missing, Repairs(missing=len(missing), duplicate=duplicate, unknown=unknown)
