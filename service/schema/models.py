"""What language models can do, read and write, and what they cost."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from service.schema.values import Value


class Usage(Value):
    """Tokens over all model calls of a request."""

    prompt_tokens: int = 0
    """Read."""
    completion_tokens: int = 0
    """Written."""
    total_tokens: int = 0
    """Both."""
    cached_tokens: int = 0
    """Of those read, how many the engine still had."""
    cost: float | None = None
    """In US dollars; null where no price is known."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cost=None
            if self.cost is None and other.cost is None
            else (self.cost or 0) + (other.cost or 0),
        )


class Price(Value):
    """US dollars per million tokens. `input`, `output`: tokens read and written; `cached`: input
    tokens that the server still had in its cache; None: they cost as much as other input."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(None, ge=0)

    def of(self, usage: Usage) -> float:
        """The cost of a usage in US dollars."""
        cached_tokens = min(usage.cached_tokens, usage.prompt_tokens)
        cached_price = self.input if self.cached is None else self.cached
        input_cost = (usage.prompt_tokens - cached_tokens) * self.input
        input_cost += cached_tokens * cached_price
        return (input_cost + usage.completion_tokens * self.output) / 1_000_000


class Capabilities(Value):
    """What a probe found a model able to do. `grammar`: it obeys a grammar; `json_schema`:
    `accepted` if the server takes a schema but its answer ignores it; `top_logprobs`: the most
    log-probabilities per token that came back, of the few numbers tried; `context`: tokens it can
    hold; `cached_tokens`: the server reports how many it had cached; `read_tps`, `write_tps`:
    tokens per second with no other request running; `at`: when it was probed."""

    grammar: bool = False
    json_schema: Literal["enforced", "accepted", "refused"] = "refused"
    token_logprobs: bool = False
    top_logprobs: int = 0
    prompt_logprobs: bool = False
    context: int | None = None
    cached_tokens: bool = False
    read_tps: float | None = None
    write_tps: float | None = None
    at: datetime
