"""Language models: one protocol of one method, and the models behind it.

Stages ask a `Scorer` or an `LLM`, which is metered and redacts what it is given; adapters, which
speak a server's language, take only `Outgoing` texts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from service.context import CallContext
from service.privacy.patterns import Outgoing
from service.schema import Price, Usage

Message = dict[str, str]
Text = TypeVar("Text", bound=str)


@dataclass(frozen=True)
class _CallOf(Generic[Text]):
    """`grammar`: an llguidance Lark grammar, `schema`: a JSON schema that the answer must follow.
    `tokens`: ids whose log-probabilities as the first token are asked for."""

    messages: list[dict[str, Text]]
    max_tokens: int
    grammar: str | None = None
    temperature: float = 0
    schema: Mapping[str, Any] | None = None
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Call(_CallOf[str]):
    """What a stage asks of a model, on behalf of whom."""

    context: CallContext = field(default_factory=CallContext)


@dataclass(frozen=True)
class OutgoingCall(_CallOf[Outgoing]):
    """A `Call` as it is sent: its texts may leave."""

    @classmethod
    def of(cls, call: Call, redact: Callable[[str], Outgoing]) -> OutgoingCall:
        return cls(
            [
                {"role": Outgoing(message["role"]), "content": redact(message["content"])}
                for message in call.messages
            ],
            call.max_tokens,
            call.grammar,
            call.temperature,
            call.schema,
            call.tokens,
        )


@dataclass(frozen=True)
class Piece:
    """Part of an answer; the last piece carries the usage. `logs`: the natural logarithms asked for
    by `Call.tokens`, all of them, in their order; in the first piece that has any."""

    text: str = ""
    usage: Usage | None = None
    logs: tuple[float, ...] = ()


@dataclass(frozen=True)
class _AskedOf(Generic[Text]):
    """How likely is `text` after `context`? The context comes in the pieces by which it grows."""

    context: tuple[Text, ...]
    text: Text


class Asked(_AskedOf[str]):
    """What a stage asks of a model."""


class OutgoingAsked(_AskedOf[Outgoing]):
    """An `Asked` as it is sent: its texts may leave."""

    @classmethod
    def of(cls, asked: Asked, redact: Callable[[str], Outgoing]) -> OutgoingAsked:
        return cls(tuple(map(redact, asked.context)), redact(asked.text))


@dataclass(frozen=True)
class Likelihoods:
    """The natural logarithm of P(text | context), summed over its tokens, for each that was
    asked."""

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
    """What a model's answers can be held to. What it can't be held to is asked for in words, and
    its answer is read with tolerance."""

    grammar: bool = True
    schema: bool = True


class Described(Protocol):
    """A model under its configured alias, and what it says of itself."""

    @property
    def alias(self) -> str: ...
    async def about(self) -> About: ...


class KnowsTokens(Protocol):
    """A model that writes, token by token.

    `token`: the id of a word that is a single token; `ModelIncapable` if it is none. `likeliest`:
    of so many likeliest first tokens asked for, how many came.
    """

    async def token(self, word: str) -> int: ...
    async def likeliest(self, count: int) -> int: ...


class ScorerAdapter(Described, Protocol):
    """A model that tells likelihoods. Raises only `ModelError`s.

    A server may keep the first context for the next call. `apart`: each answer depends on its own
    contexts alone, to the last bit, not on what else is asked with it (a server that batches
    questions as they come ignores it). `price`: as far as the adapter knows that itself.
    """

    @property
    def price(self) -> Price | None: ...
    async def loglikelihoods(
        self, asked: Sequence[OutgoingAsked], *, apart: bool = False
    ) -> Likelihoods: ...
    async def close(self) -> None: ...


@runtime_checkable
class ModelAdapter(ScorerAdapter, KnowsTokens, Protocol):
    """A model that writes. All methods raise only `ModelError`s; closing the iterator of `stream`
    stops the model's work."""

    def stream(self, call: OutgoingCall) -> AsyncGenerator[Piece, None]: ...


class Scorer(Described, Protocol):
    """A model that tells likelihoods, as stages ask it: see `ScorerAdapter`."""

    async def loglikelihoods(
        self, asked: Sequence[Asked], *, context: CallContext, apart: bool = False
    ) -> Likelihoods: ...


@runtime_checkable
class LLM(Scorer, KnowsTokens, Protocol):
    """A model that writes, as stages ask it: see `ModelAdapter`."""

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]: ...
