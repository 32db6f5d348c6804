"""The configured models as everything asks for them: their pace is measured, what they cost is
paid, and after failures they rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf
from time import monotonic
from typing import Any

from service.errors import ModelError, ModelOverBudget
from service.llm import LLM, Asked, Call, Likelihoods, Piece, Scorer
from service.prompts import Message
from service.rank.latency import LatencyEstimator
from service.schema import ApiKey, Price, Usage
from service.store.spendings import Spendings
from service.telemetry import Telemetry

TIRING = {"overload", "unreachable", "timeout"}
"""Codes of failures after which a model rests: of a server that is in trouble, not of an answer
that is of no use."""
CHARS = 3
"""About so many characters are a token: of a call that was broken off nobody says how many tokens
it took."""


@dataclass
class Exchange:
    """One call of a model: what it was asked and, as far as it came, what it said."""

    alias: str
    messages: list[Message]
    answer: str = ""


HEARD: ContextVar[list[Exchange] | None] = ContextVar("HEARD", default=None)
"""Who listens to what is asked of models."""
BILL: ContextVar[list[Usage] | None] = ContextVar("BILL", default=None)
"""Who wants to know what calls cost, failed ones included."""
PAYER: ContextVar[ApiKey | None] = ContextVar("PAYER", default=None)
"""On whose account calls are."""


class CircuitBreaker:
    """The cool-down: after so many `failures` in a row a model is not asked for `seconds`, or for
    as long as it said itself.

    Then it is tried again; one more failure and it rests again.
    """

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._failures = failures
        self._seconds = seconds
        self._clock = clock
        self._row = 0
        self._until = 0.0
        self._why: ModelError | None = None

    @property
    def resting(self) -> bool:
        return self._clock() < self._until

    def check(self) -> None:
        """Raises what it rests from, while it does."""
        if self._why is not None and self.resting:
            left = self._until - self._clock()
            raise type(self._why)(f"not asked for {left:.0f} s more, after: {self._why.message}")

    def answered(self) -> None:
        self._row = 0

    def failed(self, error: ModelError) -> None:
        if error.code not in TIRING:
            self.answered()
            return
        self._row += 1
        if self._row >= self._failures or error.rest_s:
            self._why, self._until = error, self._clock() + max(error.rest_s, self._seconds)


class Budget:
    """What may be spent on a model: `budget` dollars a day, and of each key what it is allowed in
    all. `price`: as configured; `costs`: does it cost anything?"""

    def __init__(
        self,
        alias: str,
        spendings: Spendings,
        clock: Callable[[], datetime],
        *,
        price: Price | None = None,
        budget: float | None = None,
        costs: bool = False,
    ) -> None:
        self._alias = alias
        self.price = price
        self._budget = budget
        self._costs = costs
        self._blind = ""
        self._spendings = spendings
        self._clock = clock

    async def check(self) -> None:
        """Raises `ModelOverBudget` once a budget is spent. Calls that are under way then go on: a
        day may end a little over."""
        if not self._costs:
            return
        payer = PAYER.get()
        if self._blind and (
            self._budget is not None or (payer is not None and payer.budget is not None)
        ):
            raise ModelOverBudget(
                f"nobody knows what {self._alias} costs, or has cost: {self._blind}"
            )
        if self._budget is not None and await self._spent(alias=self._alias) >= self._budget:
            raise ModelOverBudget(
                f"models.{self._alias}.budget: {self._budget:g} dollars a day are spent"
            )
        if payer is None or payer.budget is None:
            return
        if await self._spent(key_id=payer.key_id) >= payer.budget:
            raise ModelOverBudget(
                f"key {payer.name!r}: its {payer.budget:g} dollars a day are spent"
            )

    async def _spent(self, **of: str) -> float:
        """Dollars of today; without bound while that can't be read, which must cost no request its
        answer."""
        try:
            return await self._spendings.spent(self._clock(), **of)
        except Exception:
            return inf

    async def pay(self, usage: Usage) -> None:
        """Where that can't be told or kept, the model is not asked again for those who have a
        budget."""
        if not self._costs:
            return
        payer = PAYER.get()
        if usage.cost is None:
            self._blind = f"set models.{self._alias}.price"
            return
        try:
            await self._spendings.add(
                self._clock(), self._alias, payer.key_id if payer is not None else "", usage.cost
            )
            self._blind = ""
        except (
            Exception
        ) as error:  # the answer is there, and paid: it must not be lost with its bill
            self._blind = f"what it cost was not kept: {type(error).__name__}"


class MeteredScorer:
    """A model that is asked for likelihoods. `before`: what every text to it goes through."""

    def __init__(
        self,
        scorer: Scorer,
        pace: LatencyEstimator,
        rest: CircuitBreaker,
        purse: Budget,
        telemetry: Telemetry,
        before: Callable[[str], str],
    ) -> None:
        self._scorer = scorer
        self._pace = pace
        self._rest = rest
        self._purse = purse
        self._telemetry = telemetry
        self._before = before
        self._paying: set[asyncio.Task[None]] = set()
        self.alias = scorer.alias
        self.about = scorer.about

    @property
    def resting(self) -> bool:
        return self._rest.resting

    async def loglikelihoods(self, asked: Sequence[Asked], *, apart: bool = False) -> Likelihoods:
        await self._admit()
        asked = [
            Asked(tuple(map(self._before, one.context)), self._before(one.text)) for one in asked
        ]
        start = time.perf_counter()
        try:
            found = await self._scorer.loglikelihoods(asked, apart=apart)
        except ModelError as error:
            self._failed(error)
            raise
        except asyncio.CancelledError:
            if self.price is not None:
                await self._settled(_guessed("".join([*one.context, one.text]) for one in asked))
            raise
        self._rest.answered()
        took = time.perf_counter() - start
        self._pace.record_answer(self.alias, found.usage, took, took)
        return Likelihoods(found.values, await self._settled(found.usage))

    async def close(self) -> None:
        if self._paying:
            await asyncio.wait(self._paying)
        await self._scorer.close()

    async def _admit(self) -> None:
        """Raises a `ModelError` for a model that is not to be asked now."""
        self._rest.check()
        await self._purse.check()

    def _failed(self, error: ModelError) -> None:
        self._rest.failed(error)
        self._telemetry.failures.labels(self.alias, error.code).inc()

    async def _settled(self, usage: Usage) -> Usage:
        """The usage with what it costs, once that is paid; also when nobody waits any more."""
        if self._purse.price is not None or usage.cost is None:
            usage = usage.model_copy(
                update={"cost": self.price.of(usage) if self.price is not None else None}
            )
        if (bill := BILL.get()) is not None:
            bill.append(usage)
        self._telemetry.used(self.alias, usage)
        await self._whatever_comes(self._purse.pay(usage))
        return usage

    @property
    def price(self) -> Price | None:
        return self._purse.price or self._scorer.price

    async def _whatever_comes(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._paying.add(task)
        task.add_done_callback(self._paying.discard)
        await asyncio.shield(task)


class MeteredModel(MeteredScorer):
    """A model that writes; its exchanges are kept while somebody listens."""

    def __init__(
        self,
        llm: LLM,
        pace: LatencyEstimator,
        rest: CircuitBreaker,
        purse: Budget,
        telemetry: Telemetry,
        before: Callable[[str], str],
    ) -> None:
        super().__init__(llm, pace, rest, purse, telemetry, before)
        self._llm = llm
        self.token = llm.token
        self.likeliest = llm.likeliest

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        await self._admit()
        call = replace(
            call,
            messages=[one | {"content": self._before(one["content"])} for one in call.messages],
        )
        heard, exchange = HEARD.get(), Exchange(self.alias, call.messages)
        if heard is not None:
            heard.append(exchange)
        start, first, open_end = time.perf_counter(), 0.0, False
        usage: Usage | None = None
        try:
            async with aclosing(self._llm.stream(call)) as pieces:
                open_end = True
                async for piece in pieces:
                    first = first or time.perf_counter() - start
                    exchange.answer += piece.text
                    usage = (
                        piece.usage or usage
                    )  # some servers tell with every piece how much it has been so far
                    if piece.text or piece.logs:
                        yield replace(piece, usage=None)
            open_end = False
            self._rest.answered()
            if usage is not None:
                self._pace.record_answer(self.alias, usage, first, time.perf_counter() - start)
                yield Piece(usage=await self._settled(usage))
        except ModelError as error:
            open_end = open_end and bool(first)
            self._failed(error)
            raise
        finally:
            if open_end and (usage is not None or self.price is not None):
                await self._settled(
                    usage
                    or _guessed((one["content"] for one in exchange.messages), exchange.answer)
                )


def _guessed(read: Iterable[str], written: str = "") -> Usage:
    """What a call took that was broken off before it could say so."""
    tokens, more = sum(map(len, read)) // CHARS, len(written) // CHARS
    return Usage(prompt_tokens=tokens, completion_tokens=more, total_tokens=tokens + more)
