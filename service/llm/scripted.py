"""A language model for tests and dry runs: answers by a function of the call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from service.errors import ModelError
from service.llm import Call, Piece
from service.schema import Usage


class ScriptedLLM:
    """`answer(call)` returns the text, or an error to raise. Every call is kept in `calls`. Tokens are words."""

    def __init__(self, answer: Callable[[Call], str | ModelError], *, alias: str = "scripted") -> None:
        self.alias = alias
        self.calls: list[Call] = []
        self._answer = answer

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        self.calls.append(call)
        answer = self._answer(call)
        if isinstance(answer, ModelError):
            raise answer
        for line in answer.splitlines(keepends=True):
            yield Piece(line)
        asked = sum(len(message["content"].split()) for message in call.messages)
        said = len(answer.split())
        yield Piece(usage=Usage(prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said))

    async def close(self) -> None:
        pass
