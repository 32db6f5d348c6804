"""How fast models are, as measured while they work: running rates, and what a strategy may be
expected to take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from service.schema import Usage

NEWEST = 0.3
"""Weight of the newest measurement in a running rate."""
STALE_S = 120
"""A pace that was last seen longer ago is not relied on: a server that was slow may have
recovered."""
LEAST_TOKENS = 8
"""Shorter work says more about the network than about the model."""
ENOUGH = 64
"""Fewer uncached tokens say how fast a model reads at least, no more: most of their time is the
call's own."""


@dataclass
class TokenRates:
    """Seconds per token read (uncached) and per token written; `at`: when last measured."""

    read: float
    write: float
    at: float


class LatencyEstimator:
    """By model alias. One per process."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._rates: dict[str, TokenRates] = {}
        self._told: dict[str, TokenRates] = {}

    def expect(self, alias: str, read_tps: float | None, write_tps: float | None) -> None:
        """Rates measured earlier, in tokens per second: relied on for as long as any, from when
        they are first needed."""
        if read_tps and alias not in self._told:
            self._told[alias] = TokenRates(
                1 / read_tps, 1 / write_tps if write_tps else 0.0, math.inf
            )

    def forget(self, alias: str) -> None:
        """Another model goes by that name now."""
        self._rates.pop(alias, None)
        self._told.pop(alias, None)

    def saw(self, alias: str, usage: Usage, first_s: float, whole_s: float) -> None:
        """An answer whose first piece came after `first_s` and whose last after `whole_s`."""
        read, written = (
            max(usage.prompt_tokens - usage.cached_tokens, LEAST_TOKENS),
            usage.completion_tokens,
        )
        pace = first_s / read
        if read < ENOUGH:
            known = self._rates.get(alias) or self._told.get(alias)
            pace = min(
                pace, known.read if known else first_s / max(usage.prompt_tokens, LEAST_TOKENS)
            )
        self._learn(alias, pace, (whole_s - first_s) / written if written > 1 else None)

    def gave_up(self, alias: str, expected: Usage, after_s: float) -> None:
        """No answer within `after_s`: it takes longer than that; twice as long is a guess."""
        tokens = max(expected.prompt_tokens, LEAST_TOKENS)
        before = self._rates.get(alias)
        floor = 2 * after_s / tokens
        self._rates[alias] = TokenRates(
            max(floor, before.read if before else 0), before.write if before else 0, self._clock()
        )

    def seconds(self, alias: str, expected: Usage) -> float | None:
        """None: never or too long ago measured."""
        rates = self._rates.get(alias) or self._told.get(alias)
        if rates is not None and rates.at == math.inf:
            rates.at = self._clock()
        if rates is None or self._clock() - rates.at > STALE_S:
            return None
        return rates.read * expected.prompt_tokens + rates.write * expected.completion_tokens

    def _learn(self, alias: str, read: float, write: float | None) -> None:
        old = self._rates.get(alias)
        if old is None:
            self._rates[alias] = TokenRates(read, write or 0.0, self._clock())
            return
        old.read += NEWEST * (read - old.read)
        if write is not None:
            old.write += NEWEST * (write - old.write) if old.write else write
        old.at = self._clock()
