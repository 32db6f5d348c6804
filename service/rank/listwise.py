"""The model writes all candidates' letters, best first; a grammar makes anything but a permutation impossible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from service.errors import InvalidOutput
from service.prompts import LETTERS
from service.rank import Context, Scores
from service.rank.ask import Asks, Question, ask, averaged, prompted
from service.schema import Candidate, Repairs, Usage, UserState


class Listwise(Asks):
    """One output token a candidate and ordering. Scores are places counted from the end, K − 1 for the first, 0 for the last,
    averaged over the orderings (Borda)."""

    name = "listwise"

    async def score(self, state: UserState, candidates: Sequence[Candidate], context: Context) -> Scores:
        count, question = len(candidates), Question(state, context, "order")

        async def one(order: list[int]) -> Scores:
            call = question.call([candidates[place] for place in order], 2 * count + 8)
            answer = await ask(self._llm, replace(call, grammar=permutation(count)))
            slots, repairs = parse(answer.text, count)
            values = [0.0] * count
            for place, slot in enumerate(slots):
                values[slot] = float(count - 1 - place)
            return Scores(values, answer.usage, repairs)

        return await averaged(count, range(context.orderings), one)

    def tokens(self, count: int, context: Context) -> Usage:
        return prompted(count, count, context)


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
