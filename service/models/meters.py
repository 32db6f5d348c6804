"""What is measured of each model, and when it must not be asked: a circuit breaker, a budget, and
an estimate of its speed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

from service.errors import ModelError, ModelOverBudget
from service.privacy import Outgoing
from service.schema import ApiKey, Price, Usage
from service.store.spendings import Spendings
from service.telemetry import Telemetry

TRIPPING = {"overload", "unreachable", "timeout"}
"""Error codes that count as failures of the server. A useless answer doesn't: the server works."""


@dataclass(eq=False)
class CircuitBreaker:
    """Stops calls to a failing server for a while: opens after `failures` failures in a row, or at
    once if the server asks for a pause.

    It stays open for `seconds`, or for the server's pause if that is longer. Then the model is
    called again; one more failure opens it again.
    """

    failures: int
    seconds: float
    clock: Callable[[], float] = monotonic
    _in_a_row: int = field(default=0, init=False)
    _open_until: float = field(default=0, init=False)
    _cause: ModelError | None = field(default=None, init=False)

    @property
    def open(self) -> bool:
        """Whether the model must not be called now."""
        return self.clock() < self._open_until

    def check(self) -> None:
        """Raises the error that opened the breaker, as long as it is open."""
        if self._cause is not None and self.open:
            seconds = self._open_until - self.clock()
            raise type(self._cause)(
                f"not asked for {seconds:.0f} s more, after: {self._cause.message}"
            )

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self, error: ModelError) -> None:
        if error.code not in TRIPPING:
            self.succeeded()
            return
        self._in_a_row += 1
        if self._in_a_row >= self.failures or error.rest_s:
            self._cause = error
            self._open_until = self.clock() + max(error.rest_s, self.seconds)


@dataclass(eq=False)
class Budget:
    """Checks and records what one model costs. Limits what may be spent a day: on each model, and
    by each API key.

    `daily`: dollars a day that all callers together may spend on the model; None: no limit. A key
    may have a limit of its own, for all models. `price`: as configured. `costs`: whether the model
    costs money.
    """

    alias: str
    spendings: Spendings
    clock: Callable[[], datetime]
    price: Price | None = None
    daily: float | None = None
    costs: bool = False
    _unknown: str = field(default="", init=False)
    """Why it isn't known what was spent; empty while it is known."""

    async def check(self, payer: ApiKey | None) -> None:
        """Raises `ModelOverBudget` if today's budget of the model or of the payer's key is spent.
        Calls that are running are not stopped, so a day may end slightly over budget."""
        if not self.costs:
            return
        limit = payer.budget if payer is not None else None
        if self._unknown and (self.daily is not None or limit is not None):
            raise ModelOverBudget(
                f"nobody knows what {self.alias} costs, or has cost: {self._unknown}"
            )
        if self.daily is not None and await self._spent(alias=self.alias) >= self.daily:
            raise ModelOverBudget(
                f"models.{self.alias}.budget: {self.daily:g} dollars a day are spent"
            )
        if payer is None or limit is None:
            return
        if await self._spent(key_id=payer.key_id) >= limit:
            raise ModelOverBudget(f"key {payer.name!r}: its {limit:g} dollars a day are spent")

    async def _spent(self, **of: str) -> float:
        """Dollars spent today. Infinite if the store can't be read: then the request is answered
        without this model instead of failing."""
        try:
            return await self.spendings.spent(self.clock(), **of)
        except Exception:
            return math.inf

    async def pay(self, usage: Usage, payer: ApiKey | None) -> None:
        """Records what a call cost. If the cost is unknown or can't be stored, `check` refuses the
        model from then on wherever a budget applies."""
        if not self.costs:
            return
        if usage.cost is None:
            self._unknown = f"set models.{self.alias}.price"
            return
        key_id = payer.key_id if payer is not None else ""
        try:
            await self.spendings.add(self.clock(), self.alias, key_id, usage.cost)
            self._unknown = ""
        except Exception as error:  # the answer must not be lost with its bill
            self._unknown = f"what it cost was not kept: {type(error).__name__}"


# ── speed ─────────────────────────────────────────────────────────────────────────────────────────

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


@dataclass(eq=False)
class LatencyEstimator:
    """Estimates how long a model will take for a question, from how fast it answered others:
    running averages of each model's rates, by its alias. One per process."""

    clock: Callable[[], float] = monotonic
    _rates: dict[str, TokenRates] = field(default_factory=dict, init=False)
    _seeds: dict[str, TokenRates] = field(default_factory=dict, init=False)

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
        self._rates[alias] = TokenRates(max(read, known.read), known.write, self.clock())

    def seconds(self, alias: str, expected: Usage) -> float | None:
        """Estimates the seconds that a call of `expected` tokens takes; None if the model was never
        measured, or more than `STALE_S` seconds ago."""
        rates = self._rates.get(alias) or self._seeds.get(alias)
        if rates is not None and rates.at == math.inf:
            rates.at = self.clock()
        if rates is None or self.clock() - rates.at > STALE_S:
            return None
        return rates.read * expected.prompt_tokens + rates.write * expected.completion_tokens

    def _learn(self, alias: str, read: float, write: float | None) -> None:
        """Moves the running averages towards a new measurement."""
        rates = self._rates.setdefault(alias, TokenRates(read, write or 0.0, 0.0))
        rates.read += NEWEST * (read - rates.read)
        if write is not None:
            rates.write += NEWEST * (write - rates.write) if rates.write else write
        rates.at = self.clock()


@dataclass(frozen=True)
class Meters:
    """What the wrapper of one model updates on each call; `redact` is applied to every text it
    sends."""

    latency: LatencyEstimator
    breaker: CircuitBreaker
    budget: Budget
    telemetry: Telemetry
    redact: Callable[[str], Outgoing]
