"""Language models: one protocol of one method, the real ones and the scripted one behind it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from service.schema import Usage


@dataclass(frozen=True)
class Call:
    """What is asked of a model. `grammar`: an llguidance Lark grammar that the answer must follow."""

    messages: list[dict[str, str]]
    max_tokens: int
    grammar: str | None = None
    temperature: float = 0


@dataclass(frozen=True)
class Piece:
    """Part of an answer; the last piece carries the usage."""

    text: str = ""
    usage: Usage | None = None


class LLM(Protocol):
    """A model under its configured alias. `stream` raises only `ModelError`s; closing the iterator stops the model's work."""

    @property
    def alias(self) -> str: ...
    def stream(self, call: Call) -> AsyncGenerator[Piece, None]: ...
    async def close(self) -> None: ...
