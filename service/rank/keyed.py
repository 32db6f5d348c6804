"""The model gives every letter a score from 0 to 10, in a JSON object of constant shape, which
hosted models can do too."""

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic_core import from_json

from service.errors import InvalidOutput
from service.prompts import LETTERS
from service.rank import Context, Scores
from service.rank.ask import AskingStrategy, PromptQuestion, averaged, prompted
from service.rank.spec import StrategySpec
from service.schema import Candidate, Repairs, Usage, UserState

SIZES = (10, 20, len(LETTERS))
"""Numbers of letters in a schema; only few, so that a server compiles few schemas."""
MISSING = 0.0
"""Score of a letter that the model left out."""
LINES = re.compile(r"^\W*([A-Z])\W{1,5}(\d{1,3})\b", re.MULTILINE)
"""Lines such as `A: 7`."""


class Keyed(AskingStrategy):
    """Scores from 0 to 10, averaged over the orderings; ties are left to the prior."""

    name = "keyed"

    async def score(
        self, state: UserState, candidates: Sequence[Candidate], context: Context
    ) -> Scores:
        count, question = len(candidates), PromptQuestion(state, context, "scores")
        size = next(size for size in SIZES if size >= count)

        async def ask_in(order: list[int]) -> Scores:
            call = question.call([candidates[place] for place in order], 8 * size + 16)
            answer = await self._shaped(call, schema(size))
            values, repairs = parse(answer.text, count, size)
            return Scores(values, answer.usage, repairs)

        return await averaged(count, range(context.orderings), ask_in)

    def tokens(self, count: int, context: Context) -> Usage:
        return prompted(count, 5 * count, context)


@cache
def schema(size: int) -> dict[str, Any]:
    """A JSON schema for scores of `size` letters. It has no bounds: hosted models refuse those."""
    letters = list(LETTERS[:size])
    properties = {letter: {"type": "integer"} for letter in letters}
    return {
        "type": "object",
        "properties": properties,
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
    try:
        json = text[text.index("{") :].encode(errors="replace")
        scores = from_json(json, allow_partial="trailing-strings")
    except ValueError:
        scores = _first_object(text)
    if not isinstance(scores, dict):
        scores = {letter: int(score) for letter, score in LINES.findall(text)}
    values: dict[int, float] = {}
    unknown = 0
    for key, value in scores.items():
        place = LETTERS.find(key) if len(key) == 1 else -1
        if not 0 <= place < size or not _number(value):
            unknown += 1
        elif place < count:
            values[place] = min(10.0, max(0.0, float(value)))
    if 2 * len(values) < count:
        raise InvalidOutput(f"{len(values)} of {count} scores in {text[:80]!r}")
    return [values.get(place, MISSING) for place in range(count)], Repairs(
        missing=count - len(values), unknown=unknown
    )


def _first_object(text: str) -> Any:
    """The object up to the first closing brace, for answers that go on after it; None without
    one."""
    try:
        start = text.index("{")
        return from_json(text[start : text.index("}", start) + 1].encode(errors="replace"))
    except ValueError:
        return None


def _number(value: object) -> bool:
    """Whether a value is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


SPEC = StrategySpec("keyed", needs=lambda able: True, answer="scores", make=Keyed)
"""Any model can: it can be asked for JSON in words, and what it writes is mended."""
