"""What the strategies that ask a model have in common: one question, and the same question with the
candidates reordered."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from pydantic_core import from_json

from service.errors import ModelError, ModelIncapable, PromptError
from service.llm import LLM, Call, OutputConstraint, Piece
from service.llm.asking import ask
from service.prompts import LETTERS, Asks, variables
from service.rank import Context, Scores
from service.schema import Candidate, Repairs, Usage, UserState

Got = TypeVar("Got")
Ask = Callable[[list[Candidate]], Coroutine[Any, Any, Scores]]
"""Shows a model the candidates in the given order, and returns their scores in that order."""


class AskingStrategy:
    """Base class of the strategies that ask a model."""

    in_letters = True

    def __init__(self, llm: LLM, held: OutputConstraint = OutputConstraint()) -> None:
        self._llm = llm
        self.model = llm.alias
        self._held = held

    async def _shaped(self, call: Call, schema: Mapping[str, Any]) -> Piece:
        """Asks for an answer in JSON of the schema. If the server refuses schemas, asks again
        without one, and sends none from then on."""
        if self._held.schema:
            with suppress(ModelIncapable):
                return await ask(self._llm, replace(call, schema=schema))
        answer = await ask(self._llm, call)
        self._held = replace(self._held, schema=False)
        return answer


def question(
    state: UserState,
    candidates: Sequence[Candidate],
    context: Context,
    answer: str,
    length: int = 1,
    tokens: tuple[int, ...] = (),
) -> Call:
    """Returns the call that asks a model about one person's candidates. `answer`: the form of
    answer, as the template's variable of that name; `length`: the most tokens of the answer;
    `tokens`: ids of the tokens whose log-probabilities are asked for."""
    shown = variables(
        state,
        candidates,
        asks=Asks(context.instruction, context.wanted, context.avoided),
        locale=context.locale,
        line_tokens=context.line_tokens,
        answer=answer,
    )
    return Call(
        context.prompt.render(shown),
        length,
        temperature=context.prompt.sampling.temperature,
        tokens=tokens,
        context=context.call,
    )


def json_in(text: str, brackets: str) -> Any:
    """Returns the JSON value that starts at the first opening bracket, even if it is cut off; if
    more text follows, reads up to the first closing bracket. Returns None without such a value.
    `brackets`: the opening and the closing one."""
    start = text.find(brackets[0])
    if start >= 0:
        json = text[start:].encode(errors="replace")
        with suppress(ValueError):
            return from_json(json, allow_partial="trailing-strings")
        with suppress(ValueError):
            return from_json(json[: json.find(brackets[1].encode()) + 1])
    return None


def place_of(letter: str) -> int:
    """A letter's place; -1 for anything else."""
    return LETTERS.find(letter) if len(letter) == 1 else -1


def ordering(count: int, n: int) -> list[int]:
    """The n-th order to show candidates in: as they are, reversed, then shuffles, each followed by
    its reverse. Over a pair every candidate's mean slot is the same."""
    places = list(range(count))
    if n > 1:
        Random(n // 2).shuffle(places)  # noqa: S311  the same shuffles every time, no secret
    return places[::-1] if n % 2 else places


async def averaged(candidates: Sequence[Candidate], numbers: Sequence[int], ask_one: Ask) -> Scores:
    """Returns the mean of each candidate's scores over the orderings of these `numbers` (see
    `ordering`), asked at the same time. Where the scores are places, this is Borda's count."""
    orders = [ordering(len(candidates), n) for n in numbers]
    found = await together([ask_one([candidates[n] for n in order]) for order in orders])
    totals = [0.0] * len(candidates)
    for order, scores in zip(orders, found, strict=True):
        for slot, place in enumerate(order):
            totals[place] += scores.values[slot] / len(orders)
    return Scores(totals, sum((scores.repairs for scores in found), Repairs()))


async def together(questions: Sequence[Coroutine[Any, Any, Got]]) -> list[Got]:
    """Runs the questions at the same time and returns all answers in order. If one fails, stops the
    others and raises the first `ModelError` or `PromptError` alone; without one, raises the
    `ExceptionGroup`."""
    try:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(question) for question in questions]
    except ExceptionGroup as group:
        survived = (one for one in group.exceptions if isinstance(one, ModelError | PromptError))
        raise next(survived, group) from None
    return [task.result() for task in asked]


def prompted(count: int, written: int, context: Context) -> Usage:
    """Estimates the tokens of asking about `count` candidates in every ordering. `written`: the
    output tokens of each answer."""
    read = context.orderings * (150 + (count + context.titles) * 22)
    answers = context.orderings * written
    return Usage(prompt_tokens=read, completion_tokens=answers, total_tokens=read + answers)
