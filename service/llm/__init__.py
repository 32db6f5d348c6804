"""Language models: the protocols through which they are called, and the data passed.

Stages call a `Scorer` or an `LLM`, which meters each call and redacts its texts. These call a
`ScorerAdapter` or a `ModelAdapter`, which speaks a server's protocol and takes only `Outgoing`
texts.
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
    """A call of a model by a stage. `context`: on whose behalf it is made."""

    context: CallContext = field(default_factory=CallContext)


@dataclass(frozen=True)
class OutgoingCall(_CallOf[Outgoing]):
    """A `Call` as it is sent, its messages turned into `Outgoing` texts."""

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
    """Part of an answer; the last piece carries the usage. `logs`: the natural logarithms of the
    probabilities of `Call.tokens`, all of them, in that order; only one piece carries them."""

    text: str = ""
    usage: Usage | None = None
    logs: tuple[float, ...] = ()


@dataclass(frozen=True)
class _AskedOf(Generic[Text]):
    """Asks how likely `text` is after `context`. `context`: pieces of text in order; a longer
    context has further pieces at its end."""

    context: tuple[Text, ...]
    text: Text


class Asked(_AskedOf[str]):
    """A question of a stage to a model: how likely is a text after a context?"""


class OutgoingAsked(_AskedOf[Outgoing]):
    """An `Asked` as it is sent, with `Outgoing` texts."""

    @classmethod
    def of(cls, asked: Asked, redact: Callable[[str], Outgoing]) -> OutgoingAsked:
        return cls(tuple(map(redact, asked.context)), redact(asked.text))


@dataclass(frozen=True)
class Likelihoods:
    """For each question, in order, the natural logarithm of P(text | context), summed over the
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
    """Which constraints on its output a model obeys. A form that can't be enforced is asked for in
    words, and the answer is read with tolerance."""

    grammar: bool = True
    schema: bool = True


class Described(Protocol):
    """A model under its configured alias, and what it says of itself."""

    @property
    def alias(self) -> str: ...
    async def about(self) -> About: ...


class KnowsTokens(Protocol):
    """A model that writes, token by token.

    `token` returns the id of a word that is a single token; it raises `ModelIncapable` for any
    other. `likeliest` asks for the `count` likeliest first tokens and returns how many came.
    """

    async def token(self, word: str) -> int: ...
    async def likeliest(self, count: int) -> int: ...


class ScorerAdapter(Described, Protocol):
    """A model that tells likelihoods. Raises only `ModelError`s.

    A server may keep the first context for the next call. `apart`: each answer depends on its own
    contexts alone, to the last bit, not on what else is asked with it (servers that batch questions
    as they come ignore `apart`). `price`: None if the adapter doesn't know it.
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
