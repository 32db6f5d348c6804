"""Language models: the protocols that the real ones and the scripted one follow."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from service.schema import Price, Usage


@dataclass(frozen=True)
class Call:
    """A question to a model. The answer must follow `grammar` (llguidance, Lark) or `schema` (JSON
    schema) if one is given. `tokens`: ids of tokens; their log-probabilities as the first token of
    the answer are asked for."""

    messages: list[dict[str, str]]
    max_tokens: int
    grammar: str | None = None
    temperature: float = 0
    schema: Mapping[str, Any] | None = None
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Part of an answer. The last piece carries the `usage`. The first that has any carries `logs`:
    the natural logarithms for `Call.tokens`, all of them, in their order."""

    text: str = ""
    usage: Usage | None = None
    logs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A text whose likelihood after a context is asked for. The context comes in the pieces by
    which it grows, so that what is computed for a beginning can be kept."""

    context: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Likelihoods:
    """For each `Asked`, in order, the natural logarithm of P(text | context), summed over the
    text's tokens."""

    values: list[float]
    usage: Usage = Usage()


@dataclass(frozen=True)
class About:
    """What a model says of itself. `identity`: values by name; other values mean another model.
    `context`: how many tokens it can hold, if it says so."""

    identity: Mapping[str, str]
    context: int | None = None


@dataclass(frozen=True)
class OutputConstraint:
    """Which constraints a model enforces on its answers. What it can't enforce is asked for in
    words, and the answer is read with tolerance."""

    grammar: bool = True
    schema: bool = True


class Scorer(Protocol):
    """A model that computes likelihoods. All methods raise only `ModelError`s.

    Of the contexts asked about, the first may be kept for the next call. With `apart`, the value of
    a text depends on its own contexts alone, to the last bit, not on what else is asked with it; a
    server that batches questions as they come can't promise that, and isn't asked to.
    `price`: as far as the model itself knows it.
    """

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
    """A model that writes, under its configured alias. All methods raise only `ModelError`s.

    Closing the iterator of `stream` stops the model's work. `token` gives the id of a word that is
    a single token, and raises `ModelIncapable` for any other. `likeliest` asks for the `count`
    likeliest first tokens and gives the number that came.
    """

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]: ...
    async def token(self, word: str) -> int: ...
    async def likeliest(self, count: int) -> int: ...
