"""A language model for tests: answers by a function of the call."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import cast

from service.context import CallContext
from service.errors import ModelError
from service.llm import About, Asked, Call, Likelihoods, OutgoingAsked, OutgoingCall, Piece
from service.schema import Price, Usage

Answer = str | Sequence[float] | ModelError


def alike(asked: Asked) -> float:
    """A stand-in for a logarithm, between −len(text) and 0: by the piece of the context that looks
    most like the text."""
    match = max(
        (SequenceMatcher(None, piece, asked.text).ratio() for piece in asked.context), default=0.0
    )
    return -len(asked.text) * (1 - match)


@dataclass(kw_only=True, eq=False)
class ScriptedLLM:
    """Answers calls by functions, and keeps every call in `calls`.

    `answer(call)` gives the text, the log-probabilities of `call.tokens`, or an error to raise.
    `likely(asked)` gives a logarithm; by default a text is the likelier the more it looks like its
    context. With `obeys`, a grammar that allows a single text gets that text. Tokens are words; a
    word's id is the code point of its first character. It stands where an adapter stands, and
    where a stage would find a metered model.
    """

    answer: Callable[[Call], Answer] = field(kw_only=False)
    likely: Callable[[Asked], float] = alike
    alias: str = "scripted"
    obeys: bool = True
    price: Price | None = None
    calls: list[Call] = field(default_factory=list)

    async def stream(self, call: Call | OutgoingCall) -> AsyncGenerator[Piece, None]:
        call = cast(Call, call)
        self.calls.append(call)
        answer = self.answer(call)
        if isinstance(answer, ModelError):
            raise answer
        only = re.fullmatch(r'start: "([^"]*)"\s*', call.grammar or "") if self.obeys else None
        answer = only[1] if only is not None else answer
        read = sum(len(message["content"].split()) for message in call.messages)
        written = 1
        if isinstance(answer, str):
            written = len(answer.split())
            for line in answer.splitlines(keepends=True):
                yield Piece(line)
        else:
            yield Piece("A", logs=tuple(answer))
        yield Piece(
            usage=Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)
        )

    async def about(self) -> About:
        return About({"id": self.alias})

    async def likeliest(self, count: int) -> int:
        return 0

    async def token(self, word: str) -> int:
        return ord(word[0])

    async def loglikelihoods(
        self,
        asked: Sequence[Asked] | Sequence[OutgoingAsked],
        *,
        context: CallContext | None = None,
        apart: bool = False,
    ) -> Likelihoods:
        questions = cast(Sequence[Asked], asked)
        tokens = sum(len(question.text.split()) for question in questions)
        return Likelihoods(
            [self.likely(question) for question in questions],
            Usage(prompt_tokens=tokens, total_tokens=tokens),
        )

    async def close(self) -> None:
        pass
