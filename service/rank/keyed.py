"""The model gives every letter a score from 0 to 10, in a JSON object of constant shape, which
hosted models can do too."""

import re
from collections.abc import Sequence
from functools import cache
from math import isfinite
from typing import Any

from service.errors import InvalidOutput
from service.prompts import LETTERS
from service.rank import Context, Scores, StrategySpec
from service.rank.ask import AskingStrategy, averaged, json_in, place_of, prompted, question
from service.schema import Candidate, Repairs, Usage, UserState

SIZES = (10, 20, len(LETTERS))
"""The numbers of letters that a schema may have: few, so that a server compiles few schemas."""
LINES = re.compile(r"^\W*([A-Z])\W{1,5}(\d{1,3})\b", re.MULTILINE)
"""Lines such as `A: 7`."""


class Keyed(AskingStrategy):
    """Scores from 0 to 10, averaged over the orderings; ties are left to the prior."""

    name = "keyed"

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        count = len(candidates)
        size = next(size for size in SIZES if size >= count)

        async def ask_in(shown: list[Candidate]) -> Scores:
            call = question(state, shown, context, "scores", 8 * size + 16)
            answer = await self._shaped(call, schema(size))
            return Scores(*parse(answer.text, count, size))

        return await averaged(candidates, range(context.orderings), ask_in)

    def tokens(self, count: int, context: Context) -> Usage:
        return prompted(count, 5 * count, context)


@cache
def schema(size: int) -> dict[str, Any]:
    """A JSON schema for scores of `size` letters. It has no bounds: hosted models refuse those."""
    letters = list(LETTERS[:size])
    return {
        "type": "object",
        "properties": {letter: {"type": "integer"} for letter in letters},
        "required": letters,
        "additionalProperties": False,
    }


def parse(text: str, count: int, size: int) -> tuple[list[float], Repairs]:
    """A score in [0, 10] for each of the first `count` letters; those up to `size` are padding.

    Text around the object is skipped, and a cut object is read as far as it goes; without one,
    lines such as `A: 7` are read. Unknown keys and values that are no numbers are dropped, missing
    letters get 0, and each is counted. Raises `InvalidOutput` if fewer than half of the letters
    have a score.
    """
    given = json_in(text, "{}")
    if given is None:
        given = {letter: int(score) for letter, score in LINES.findall(text)}
    numbers = {
        place_of(key): float(min(10, max(0, value)))
        for key, value in given.items()
        if type(value) is int or (type(value) is float and isfinite(value))  # no true, no false
    }
    values = {place: value for place, value in numbers.items() if 0 <= place < size}
    missing = sum(place not in values for place in range(count))
    if 2 * missing > count:
        raise InvalidOutput(f"{count - missing} of {count} scores in {text[:80]!r}")
    scores = [values.get(place, 0.0) for place in range(count)]
    return scores, Repairs(missing=missing, unknown=len(given) - len(values))


SPEC = StrategySpec("keyed", needs=lambda able: True, answer="scores", make=Keyed)
"""Any model can run it: JSON can be asked for in words, and a faulty answer is repaired."""
