"""Language models: one protocol of one method, the real ones and the scripted one behind it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from service.schema import Price, Usage


@dataclass(frozen=True)
class Call:
    """What is asked of a model. `grammar`: an llguidance Lark grammar, `schema`: a JSON schema that
    the answer must follow. `tokens`: ids whose log-probabilities as the first token are asked
    for."""

    messages: list[dict[str, str]]
    max_tokens: int
    grammar: str | None = None
    temperature: float = 0
    schema: Mapping[str, Any] | None = None
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Part of an answer; the last piece carries the usage. `logs`: the natural logarithms asked for
    by `Call.tokens`, all of them, in their order; in the first piece that has any."""

    text: str = ""
    usage: Usage | None = None
    logs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Asked:
    """How likely is `text` after `context`? The context comes in the pieces by which it grows."""

    context: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Likelihoods:
    """The natural logarithm of P(text | context), summed over its tokens, for each that was
    asked."""

    values: list[float]
    usage: Usage = Usage()


@dataclass(frozen=True)
class About:
    """What a model says of itself, by name: other values, another model. `context`: tokens it can
    hold, if it tells."""

    told: Mapping[str, str]
    context: int | None = None


@dataclass(frozen=True)
class OutputConstraint:
    """What a model's answers can be held to; what it can't is asked for in words, and read with
    tolerance."""

    grammar: bool = True
    schema: bool = True


class Scorer(Protocol):
    """A model that tells likelihoods. Raises only `ModelError`s. What may be kept for the next time
    is the first context. `apart`: what is told of a text depends on its own contexts alone, to the
    last bit, not on what else is asked with it; of a server that puts questions together as they
    come that can't be had, and isn't asked. `price`: as far as it knows that itself."""

    @property
    def alias(self) -> str: ...
    @property
    def price(self) -> Price | None: ...
    async def about(self) -> About: ...
    async def loglikelihoods(
        self, asked: Sequence[Asked], *, apart: bool = False
    ) -> Likelihoods: ...
    async def close(self) -> None: ...


@runtime_checkable
class LLM(Scorer, Protocol):
    """A model that writes, under its configured alias. All methods raise only `ModelError`s;
    closing the iterator of `stream` stops the model's work. `token` is the id of a word that is a
    single token; `ModelIncapable` if it is none. `likeliest`: of so many likeliest first tokens
    asked for, how many came."""

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]: ...
    async def token(self, word: str) -> int: ...
    async def likeliest(self, count: int) -> int: ...
