"""What the strategies that ask a model have in common: one question, and the same question with the
candidates reordered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

from service.errors import InvalidOutput, ModelError, ModelIncapable, PromptError
from service.llm import LLM, Call, OutputConstraint
from service.llm.thinking import answer_of
from service.prompts import variables
from service.rank import Context, Scores
from service.schema import Candidate, Repairs, Usage, UserState

LONGEST = 64_000
"""Characters of an answer; a server that no grammar binds may send any number."""


class AskingStrategy:
    """What a strategy that asks a model begins with. `weight`: the model's share against the
    prior."""

    in_letters = True

    def __init__(
        self, llm: LLM, weight: float, held: OutputConstraint = OutputConstraint()
    ) -> None:
        self._llm = llm
        self.model = llm.alias
        self.weight = weight
        self._held = held
        self._schema = held.schema

    async def _shaped(self, call: Call, schema: Mapping[str, Any]) -> ModelAnswer:
        """As JSON; asked once more in words alone where the server refuses schemas, and so from
        then on."""
        if self._schema:
            try:
                return await ask(self._llm, replace(call, schema=schema))
            except ModelIncapable:
                answer = await ask(self._llm, call)
                self._schema = False
                return answer
        return await ask(self._llm, call)


@dataclass(frozen=True)
class PromptQuestion:
    """One person, what is asked of them, and how. `answer`: as the template's variable of that
    name."""

    state: UserState
    context: Context
    answer: str

    def call(self, candidates: Sequence[Candidate], max_tokens: int) -> Call:
        context = self.context
        shown = variables(
            self.state,
            candidates,
            instruction=context.instruction,
            locale=context.locale,
            line_tokens=context.line_tokens,
            answer=self.answer,
        )
        try:
            messages = context.prompt.render(shown)
        except PromptError as error:
            raise InvalidOutput(error.message) from error
        return Call(
            messages,
            max_tokens,
            temperature=context.prompt.sampling.temperature,
            context=context.call,
        )


@dataclass(frozen=True)
class ModelAnswer:
    text: str
    usage: Usage
    logs: tuple[float, ...]


async def ask(llm: LLM, call: Call) -> ModelAnswer:
    """The whole answer; the model stops working when the caller is cancelled."""
    text, usage = "", Usage()
    logs: tuple[float, ...] = ()
    async with aclosing(llm.stream(call)) as pieces:
        async for piece in pieces:
            text += piece.text
            if len(text) > LONGEST:
                raise InvalidOutput("an answer without an end")
            usage = piece.usage or usage
            logs = piece.logs or logs
    if call.tokens and not logs:
        raise InvalidOutput("no log-probabilities")
    return ModelAnswer(answer_of(text), usage, logs)


def ordering(count: int, n: int) -> list[int]:
    """The n-th order to show candidates in: as they are, reversed, then shuffles, each followed by
    its reverse. Over a pair every candidate's mean slot is the same."""
    places = list(range(count))
    if n > 1:
        Random(n // 2).shuffle(places)  # noqa: S311  the same shuffles every time, no secret
    return places[::-1] if n % 2 else places


Got = TypeVar("Got")
Ask = Callable[[list[int]], Coroutine[Any, Any, Scores]]
"""Scores by slot, with the candidates shown in this order."""


async def averaged(count: int, numbers: Sequence[int], ask_one: Ask) -> Scores:
    """The mean of each candidate's scores over several orderings, asked at the same time: Borda's
    count where the scores are places."""
    orders = [ordering(count, n) for n in numbers]
    found = await together([ask_one(order) for order in orders])
    totals = [0.0] * count
    usage, repairs = Usage(), Repairs()
    for order, scores in zip(orders, found, strict=True):
        usage, repairs = usage + scores.usage, repairs + scores.repairs
        for slot, place in enumerate(order):
            totals[place] += scores.values[slot] / len(orders)
    return Scores(totals, usage, repairs)


async def together(questions: Sequence[Coroutine[Any, Any, Got]]) -> list[Got]:
    """All answers in order; the first `ModelError` stops the other questions and is raised
    alone."""
    try:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(question) for question in questions]
    except ExceptionGroup as group:
        raise next(
            (error for error in group.exceptions if isinstance(error, ModelError)), group
        ) from None
    return [task.result() for task in asked]


def prompted(count: int, written: int, context: Context) -> Usage:
    """About what a prompt of `count` candidates costs, in tokens; measured where it was asked
    before."""
    read = context.orderings * (150 + (count + context.titles) * 22)
    return Usage(
        prompt_tokens=read,
        completion_tokens=context.orderings * written,
        total_tokens=read + written,
    )
