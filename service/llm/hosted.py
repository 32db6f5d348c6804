"""Models at a provider, through LiteLLM, which covers the differences between providers.

LiteLLM takes seconds to import, so it is imported at first use, in a thread. What a provider can't
take is an error, or a warning for what the answer doesn't depend on.
"""

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import cache, cached_property
from os import environ
from typing import Any

from service.errors import (
    InvalidOutput,
    ModelError,
    ModelIncapable,
    ModelOverloaded,
    ModelTimeout,
    ModelUnreachable,
)
from service.llm import About, Likelihoods, OutgoingAsked, OutgoingCall, Piece
from service.llm.openai import delta_text, rest_of, schema_body, usage_of, without_key
from service.llm.thinking import Thoughts
from service.schema import Price, Usage

CONNECT_S = 5.0
LONGEST_S = 3_600.0
"""Longer than any deadline. Without a time-out LiteLLM sets one of its own, so it gets this."""
BUSY = {429, 503, 529}
"""HTTP statuses of a provider that is overloaded."""


class Hosted:
    """One request a call, no retries. Without a key LiteLLM reads the provider's own environment
    variables, as it does for all but the key anyway (AWS_REGION_NAME, AZURE_API_BASE).

    `extra`: more arguments of a completion, by LiteLLM's names. `context`: how many tokens the
    model can hold; without it LiteLLM's table says. `warn(message)`, if it is set, is called once
    for what had to be left out.
    """

    def __init__(
        self,
        alias: str,
        *,
        model: str,
        base_url: str = "",
        api_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
        context: int | None = None,
    ) -> None:
        self.alias = alias
        self._model = model
        self._key = api_key
        self.price: Price | None = None
        self._context = context
        self.warn: Callable[[str], None] = lambda message: None
        self._left_out: set[str] = set()
        self._base_url = base_url
        self._extra = extra or {}

    @cached_property
    def _always(self) -> dict[str, Any]:
        """Arguments that every completion gets."""
        import httpx

        where = {"api_key": self._key, "api_base": self._base_url}
        return {
            **{name: value for name, value in where.items() if value},
            "model": self._model,
            "num_retries": 0,
            "max_retries": 0,
            "timeout": httpx.Timeout(LONGEST_S, connect=CONNECT_S),
            **self._extra,
        }

    async def about(self) -> About:
        """The model's name and what LiteLLM's table says of it: providers don't say when a name
        stands for another model."""
        lite = await _litellm()
        context = _known(lite, self._model).get("max_input_tokens")
        return About(
            {"id": self._model}, self._context or (context if isinstance(context, int) else None)
        )

    async def stream(self, call: OutgoingCall) -> AsyncGenerator[Piece, None]:
        if call.grammar or call.tokens:
            raise ModelIncapable("hosted models know no grammars and no token ids")
        arguments = {
            "messages": call.messages,
            "max_tokens": call.max_tokens,
            "temperature": call.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **schema_body(call),
        }
        answer = await self._begin(arguments)
        thoughts = Thoughts()
        with self._translated():
            async with aclosing(answer):
                async for chunk in answer:
                    text = thoughts.without(delta_text(chunk.choices[0])) if chunk.choices else ""
                    usage = getattr(chunk, "usage", None)
                    yield Piece(text, await self._usage(usage) if usage else None)
        if text := thoughts.rest():
            yield Piece(text)

    async def _begin(self, arguments: dict[str, Any]) -> Any:
        """The stream of a completion. A temperature is left out, with a warning, for a model that
        takes none: an answer doesn't depend on it."""
        lite = await _litellm()
        self.price = self.price or _listed_price(lite, self._model)
        body = {**arguments, **self._always}
        try:
            with self._translated():
                return await lite.acompletion(
                    **{name: body[name] for name in body if name not in self._left_out}
                )
        except ModelIncapable as error:
            if "temperature" not in error.message.lower() or "temperature" in self._left_out:
                raise
        self._left_out.add("temperature")
        self.warn(f"{self._model} takes no temperature: it is left out")
        return await self._begin(arguments)

    async def token(self, word: str) -> int:
        raise ModelIncapable("hosted models know no token ids")

    async def likeliest(self, count: int) -> int:
        """By `top_logprobs`, which few providers have."""
        lite = await _litellm()
        arguments = {
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": count,
        }
        with self._translated():
            completion = await lite.acompletion(**arguments, **self._always)
            logs = getattr(completion.choices[0], "logprobs", None)
            return len(logs.content[0].top_logprobs) if logs is not None and logs.content else 0

    async def loglikelihoods(
        self, asked: Sequence[OutgoingAsked], *, apart: bool = False
    ) -> Likelihoods:
        raise ModelIncapable("hosted models tell no likelihoods")

    async def close(self) -> None:
        """Nothing to do: LiteLLM's connections are shared by the process and end with it."""

    async def _usage(self, reported: Any) -> Usage:
        """The reported tokens with their cost by LiteLLM's table; no cost where that has none."""
        usage = usage_of(reported)
        try:
            cost = (await _litellm()).cost_per_token(model=self._model, usage_object=reported)
        except Exception:  # for a model without a price LiteLLM raises a bare Exception
            return usage
        return usage.model_copy(update={"cost": sum(cost) or None})

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises `ModelError`s in place of LiteLLM's errors, which inherit from openai's."""
        try:
            yield
        except Exception as error:
            raise self._as_model_error(error) from error

    def _as_model_error(self, error: Exception) -> Exception:
        """The error to raise for one of LiteLLM's: the most specific class is tried first, and no
        message holds the key. What breaks a stream LiteLLM wraps in an error of its own."""
        import httpx
        import openai

        kind, status = type(error).__name__, getattr(error, "status_code", None)
        first_line = str(error).partition("\n")[0]
        message = f"HTTP {status}: {without_key(self._key, first_line)}"
        if isinstance(error, ModelError):
            return error
        if isinstance(inner := getattr(error, "original_exception", None), Exception):
            return self._as_model_error(inner)
        if kind == "ContentPolicyViolationError":
            return InvalidOutput("refused")
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelIncapable(
                f"HTTP {status}: the provider doesn't take this key for {self._model}"
            )
        if isinstance(error, openai.APITimeoutError | TimeoutError):
            return ModelTimeout(f"no connection within {CONNECT_S} s")
        if isinstance(error, openai.RateLimitError) or status in BUSY:
            return ModelOverloaded(
                f"HTTP {status}",
                rest_s=rest_of(getattr(error, "litellm_response_headers", None) or {}),
            )
        if isinstance(
            error, openai.BadRequestError | openai.NotFoundError | openai.UnprocessableEntityError
        ):
            return ModelIncapable(message)
        if isinstance(error, openai.APIError | httpx.TransportError | OSError):
            return ModelUnreachable(message)
        return InvalidOutput(f"not a chat completion stream: {without_key(self._key, str(error))}")


def _known(lite: Any, model: str) -> Mapping[str, Any]:
    """What LiteLLM's table says of a model, listed with its provider's name or without; {} for
    nothing."""
    return lite.model_cost.get(model) or lite.model_cost.get(model.partition("/")[2]) or {}


def _listed_price(lite: Any, model: str) -> Price | None:
    """The price in LiteLLM's table, in dollars per million tokens."""
    known = _known(lite, model)
    names = {
        "input": "input_cost_per_token",
        "output": "output_cost_per_token",
        "cached": "cache_read_input_token_cost",
    }
    dollars = {name: 1e6 * known[key] for name, key in names.items() if known.get(key) is not None}
    return Price(**dollars) if {"input", "output"} <= dollars.keys() else None


async def _litellm() -> Any:
    return await asyncio.to_thread(_imported)


@cache
def _imported() -> Any:
    """LiteLLM, set to use its own price table instead of fetching one, and to be silent: of itself
    it logs and reports what it is asked."""
    environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    lite: Any = importlib.import_module("litellm")
    lite.telemetry = False
    lite.suppress_debug_info = True
    lite.drop_params = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return lite
