"""Wraps model adapters: each call is redacted, timed, paid for, and guarded by a circuit
breaker."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from service.context import CallContext, Exchange
from service.errors import ModelError
from service.llm import (
    Asked,
    Call,
    Likelihoods,
    ModelAdapter,
    OutgoingAsked,
    OutgoingCall,
    Piece,
    ScorerAdapter,
)
from service.models.meters import Meters
from service.schema import Price, Usage

CHARS_A_TOKEN = 3
"""Rough characters per token, to guess the usage of a cancelled call, for which no server reports
it."""


class MeteredScorer:
    """Wraps a model that returns log-likelihoods of texts."""

    def __init__(self, adapter: ScorerAdapter, meters: Meters) -> None:
        self._adapter = adapter
        self._meters = meters
        self._payments: set[asyncio.Task[None]] = set()
        self.alias = adapter.alias
        self.about = adapter.about

    @property
    def resting(self) -> bool:
        """Whether the model's circuit breaker is open."""
        return self._meters.breaker.open

    @property
    def price(self) -> Price | None:
        return self._meters.budget.price or self._adapter.price

    async def loglikelihoods(
        self, asked: Sequence[Asked], *, context: CallContext, apart: bool = False
    ) -> Likelihoods:
        await self._admit(context)
        outgoing = [OutgoingAsked.of(question, self._meters.redact) for question in asked]
        start = time.perf_counter()
        try:
            answer = await self._adapter.loglikelihoods(outgoing, apart=apart)
        except ModelError as error:
            self._failed(error)
            raise
        except asyncio.CancelledError:
            if self.price is not None:
                texts = ("".join([*question.context, question.text]) for question in outgoing)
                await self._settle(_guessed_usage(texts), context)
            raise
        self._meters.breaker.succeeded()
        seconds = time.perf_counter() - start
        self._meters.latency.record_answer(self.alias, answer.usage, seconds, seconds)
        return Likelihoods(answer.values, await self._settle(answer.usage, context))

    async def close(self) -> None:
        if self._payments:
            await asyncio.wait(self._payments)
        await self._adapter.close()

    async def _admit(self, context: CallContext) -> None:
        """Raises a `ModelError` if the circuit breaker is open or a budget is spent."""
        self._meters.breaker.check()
        await self._meters.budget.check(context.payer)

    def _failed(self, error: ModelError) -> None:
        self._meters.breaker.failed(error)
        self._meters.telemetry.failures.labels(self.alias, error.code).inc()

    async def _settle(self, usage: Usage, context: CallContext) -> Usage:
        """Records a call's usage and pays for it; returns the usage with its cost. The payment is
        completed even if the caller is cancelled."""
        if self._meters.budget.price is not None or usage.cost is None:
            cost = self.price.of(usage) if self.price is not None else None
            usage = usage.model_copy(update={"cost": cost})
        context.charge(usage)
        self._meters.telemetry.used(self.alias, usage)
        payment = asyncio.create_task(self._meters.budget.pay(usage, context.payer))
        self._payments.add(payment)
        payment.add_done_callback(self._payments.discard)
        await asyncio.shield(payment)
        return usage


class MeteredModel(MeteredScorer):
    """Wraps a model that writes text."""

    def __init__(self, adapter: ModelAdapter, meters: Meters) -> None:
        super().__init__(adapter, meters)
        self._writer = adapter
        self.token = adapter.token
        self.likeliest = adapter.likeliest

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """Yields the answer in pieces; the last one carries the usage. If the caller stops early,
        what was read and written until then is paid for."""
        await self._admit(call.context)
        outgoing = OutgoingCall.of(call, self._meters.redact)
        exchange = Exchange(self.alias, [dict(message) for message in outgoing.messages])
        if call.context.exchanges is not None:
            call.context.exchanges.append(exchange)
        start, first_s, unsettled = time.perf_counter(), 0.0, False
        usage: Usage | None = None
        try:
            async with aclosing(self._writer.stream(outgoing)) as pieces:
                unsettled = True
                async for piece in pieces:
                    first_s = first_s or time.perf_counter() - start
                    exchange.answer += piece.text
                    usage = piece.usage or usage  # some servers send the usage so far every time
                    if piece.text or piece.logs:
                        yield replace(piece, usage=None)
            unsettled = False
            self._meters.breaker.succeeded()
            if usage is not None:
                seconds = time.perf_counter() - start
                self._meters.latency.record_answer(self.alias, usage, first_s, seconds)
                yield Piece(usage=await self._settle(usage, call.context))
        except ModelError as error:
            unsettled = unsettled and bool(first_s)
            self._failed(error)
            raise
        finally:
            if unsettled and (usage is not None or self.price is not None):
                texts = (message["content"] for message in outgoing.messages)
                guess = usage or _guessed_usage(texts, exchange.answer)
                await self._settle(guess, call.context)


def _guessed_usage(read: Iterable[str], written: str = "") -> Usage:
    """Guesses the tokens of a call that was stopped before the server reported them."""
    prompt = sum(map(len, read)) // CHARS_A_TOKEN
    completion = len(written) // CHARS_A_TOKEN
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )
