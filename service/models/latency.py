"""Estimates how long a model will take for a question, from how fast it answered others."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from service.schema import Usage

NEWEST = 0.3
"""Weight of the newest measurement in a running average."""
STALE_S = 120
"""A rate that was measured longer ago is not used: a server that was slow may have recovered."""
LEAST_TOKENS = 8
"""Shorter prompts count as this long: their time says more of the network than of the model."""
ENOUGH = 64
"""Prompts with fewer uncached tokens can only lower the rate: most of their time is the call's
fixed overhead."""


@dataclass
class TokenRates:
    """Seconds per token read (uncached) and per token written. `at`: when last measured, by the
    estimator's clock."""

    read: float
    write: float
    at: float


class LatencyEstimator:
    """Running averages of each model's rates, by its alias. One per process."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._rates: dict[str, TokenRates] = {}
        self._seeds: dict[str, TokenRates] = {}

    def seed(self, alias: str, read_tps: float | None, write_tps: float | None) -> None:
        """Sets rates from an earlier measurement, in tokens per second. They apply until a newer
        one, and become stale `STALE_S` after their first use."""
        if read_tps and alias not in self._seeds:
            write = 1 / write_tps if write_tps else 0.0
            self._seeds[alias] = TokenRates(1 / read_tps, write, math.inf)

    def forget(self, alias: str) -> None:
        """Drops all rates of an alias, as it now stands for another model."""
        self._rates.pop(alias, None)
        self._seeds.pop(alias, None)

    def record_answer(self, alias: str, usage: Usage, first_s: float, whole_s: float) -> None:
        """Updates the rates by an answer. `first_s`, `whole_s`: seconds until its first and its
        last piece."""
        uncached = max(usage.prompt_tokens - usage.cached_tokens, LEAST_TOKENS)
        written = usage.completion_tokens
        read_rate = first_s / uncached
        if uncached < ENOUGH:
            known = self._rates.get(alias) or self._seeds.get(alias)
            all_read = max(usage.prompt_tokens, LEAST_TOKENS)
            read_rate = min(read_rate, known.read if known else first_s / all_read)
        self._learn(alias, read_rate, (whole_s - first_s) / written if written > 1 else None)

    def record_timeout(self, alias: str, expected: Usage, after_s: float) -> None:
        """Updates the rates by a call of `expected` tokens that didn't answer within `after_s`
        seconds: assumes twice that time, or the known rate if it is slower."""
        known = self._rates.get(alias) or TokenRates(0, 0, 0)
        read = 2 * after_s / max(expected.prompt_tokens, LEAST_TOKENS)
        self._rates[alias] = TokenRates(max(read, known.read), known.write, self._clock())

    def seconds(self, alias: str, expected: Usage) -> float | None:
        """Estimates the seconds that a call of `expected` tokens takes; None if the model was never
        measured, or more than `STALE_S` seconds ago."""
        rates = self._rates.get(alias) or self._seeds.get(alias)
        if rates is not None and rates.at == math.inf:
            rates.at = self._clock()
        if rates is None or self._clock() - rates.at > STALE_S:
            return None
        return rates.read * expected.prompt_tokens + rates.write * expected.completion_tokens

    def _learn(self, alias: str, read: float, write: float | None) -> None:
        """Moves the running averages towards a new measurement."""
        rates = self._rates.setdefault(alias, TokenRates(read, write or 0.0, 0.0))
        rates.read += NEWEST * (read - rates.read)
        if write is not None:
            rates.write += NEWEST * (write - rates.write) if rates.write else write
        rates.at = self._clock()
