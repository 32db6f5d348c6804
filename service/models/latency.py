"""How fast models are: running rates, measured while they work, and what a call may take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from service.schema import Usage

NEWEST = 0.3
"""Weight of the newest measurement in a running rate."""
STALE_S = 120
"""A rate that was last measured longer ago is not relied on: a slow server may have recovered."""
LEAST_TOKENS = 8
"""Shorter work says more about the network than about the model."""
ENOUGH_TOKENS = 64
"""A call with fewer uncached tokens only bounds how fast a model reads: most of its time is the
call's own."""


@dataclass
class TokenRates:
    """Seconds per token read (uncached) and per token written; `at`: when last measured."""

    read: float
    write: float
    at: float


class LatencyEstimator:
    """Rates by model alias. One per process."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._measured: dict[str, TokenRates] = {}
        self._initial: dict[str, TokenRates] = {}

    def set_initial(self, alias: str, read_tps: float | None, write_tps: float | None) -> None:
        """Rates measured earlier, in tokens per second. They go stale like any other, counted from
        their first use."""
        if read_tps and alias not in self._initial:
            write = 1 / write_tps if write_tps else 0.0
            self._initial[alias] = TokenRates(1 / read_tps, write, math.inf)

    def forget(self, alias: str) -> None:
        """Drop the rates of an alias that stands for another model now."""
        self._measured.pop(alias, None)
        self._initial.pop(alias, None)

    def observe(self, alias: str, usage: Usage, first_s: float, whole_s: float) -> None:
        """Learn from an answer whose first piece came after `first_s` and whose last after
        `whole_s`."""
        read = max(usage.prompt_tokens - usage.cached_tokens, LEAST_TOKENS)
        written = usage.completion_tokens
        rate = first_s / read
        if read < ENOUGH_TOKENS:
            known = self._measured.get(alias) or self._initial.get(alias)
            slowest = known.read if known else first_s / max(usage.prompt_tokens, LEAST_TOKENS)
            rate = min(rate, slowest)
        self._learn(alias, rate, (whole_s - first_s) / written if written > 1 else None)

    def timed_out(self, alias: str, expected: Usage, after_s: float) -> None:
        """Learn that there was no answer within `after_s`: twice as long is a guess."""
        tokens = max(expected.prompt_tokens, LEAST_TOKENS)
        before = self._measured.get(alias)
        read = max(2 * after_s / tokens, before.read if before else 0)
        write = before.write if before else 0
        self._measured[alias] = TokenRates(read, write, self._clock())

    def seconds(self, alias: str, expected: Usage) -> float | None:
        """How long a call may take; None if the model was never measured, or too long ago."""
        rates = self._measured.get(alias) or self._initial.get(alias)
        if rates is not None and rates.at == math.inf:
            rates.at = self._clock()
        if rates is None or self._clock() - rates.at > STALE_S:
            return None
        return rates.read * expected.prompt_tokens + rates.write * expected.completion_tokens

    def _learn(self, alias: str, read: float, write: float | None) -> None:
        rates = self._measured.get(alias)
        if rates is None:
            self._measured[alias] = TokenRates(read, write or 0.0, self._clock())
            return
        rates.read += NEWEST * (read - rates.read)
        if write is not None:
            rates.write += NEWEST * (write - rates.write) if rates.write else write
        rates.at = self._clock()
