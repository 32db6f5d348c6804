"""Models at a provider, through LiteLLM: all that differs between providers stays in this file.

LiteLLM takes seconds to import, so it is imported at first use, in a thread. Nothing it can't pass
on is dropped in silence.
"""

from __future__ import annotations

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
from service.llm.openai import rest_of, said, schema_body, usage_of, without
from service.llm.thinking import Thoughts
from service.schema import Price, Usage

CONNECT_S = 5.0
LONGEST_S = 3_600.0
"""Beyond any deadline; LiteLLM takes no for an answer where a time-out is asked for, and puts one
of its own."""
BUSY = {429, 503, 529}


class Hosted:
    """One request a call, no retries. Without a key LiteLLM looks for the provider's own variables,
    as AWS_REGION_NAME or AZURE_API_BASE, which it does for all but the key anyway.

    `extra`: more arguments of a completion, as LiteLLM calls them; `warn` is told once what had to
    be left out."""

    def __init__(
        self,
        alias: str,
        *,
        model: str,
        base_url: str = "",
        api_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
        context: int | None = None,
        warn: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.alias = alias
        self._model = model
        self._key = api_key
        self.price: Price | None = None
        self._context = context
        self._warn = warn
        self._left_out: set[str] = set()
        self._base_url = base_url
        self._extra = extra or {}

    @cached_property
    def _always(self) -> dict[str, Any]:
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
        """Providers don't say when a model becomes another: what LiteLLM knows of its name."""
        lite = await _litellm()
        context = _known(lite, self._model).get("max_input_tokens")
        return About(
            {"id": self._model}, self._context or (context if isinstance(context, int) else None)
        )

    async def stream(self, call: OutgoingCall) -> AsyncGenerator[Piece, None]:
        if call.grammar or call.tokens:
            raise ModelIncapable("hosted models know no grammars and no token ids")
        asked = {
            "messages": call.messages,
            "max_tokens": call.max_tokens,
            "temperature": call.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **schema_body(call),
        }
        answer = await self._asked(asked)
        thoughts = Thoughts()
        with self._translated():
            async with aclosing(answer):
                async for chunk in answer:
                    text = thoughts.without(said(chunk.choices[0])) if chunk.choices else ""
                    usage = getattr(chunk, "usage", None)
                    yield Piece(text, await self._usage(usage) if usage else None)
        if text := thoughts.rest():
            yield Piece(text)

    async def _asked(self, asked: dict[str, Any]) -> Any:
        """The answer's beginning. A temperature is left out, and said so, for a model that takes
        none: it is a wish, not what the answer depends on."""
        lite = await _litellm()
        self.price = self.price or _listed(lite, self._model)
        body = {**asked, **self._always}
        try:
            with self._translated():
                return await lite.acompletion(
                    **{name: body[name] for name in body if name not in self._left_out}
                )
        except ModelIncapable as error:
            if "temperature" not in error.message.lower() or "temperature" in self._left_out:
                raise
        self._left_out.add("temperature")
        self._warn(f"{self._model} takes no temperature: it is left out")
        return await self._asked(asked)

    async def token(self, word: str) -> int:
        raise ModelIncapable("hosted models know no token ids")

    async def likeliest(self, count: int) -> int:
        """By `top_logprobs`, which few providers have."""
        lite = await _litellm()
        asked = {
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 1,
            "logprobs": True,
        }
        with self._translated():
            found = await lite.acompletion(**asked, top_logprobs=count, **self._always)
            logs = getattr(found.choices[0], "logprobs", None)
            return len(logs.content[0].top_logprobs) if logs is not None and logs.content else 0

    async def loglikelihoods(
        self, asked: Sequence[OutgoingAsked], *, apart: bool = False
    ) -> Likelihoods:
        raise ModelIncapable("hosted models tell no likelihoods")

    async def close(self) -> None:
        """LiteLLM's connections are the process's and end with it."""

    async def _usage(self, told: Any) -> Usage:
        """With what it cost by LiteLLM's own table; unknown where that doesn't have it."""
        usage = usage_of(told)
        try:
            cost = (await _litellm()).cost_per_token(model=self._model, usage_object=told)
        except (
            Exception
        ):  # what LiteLLM raises for a model it has no price of is no class of its own
            return usage
        return usage.model_copy(update={"cost": sum(cost) or None})

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """LiteLLM's errors, which are the openai client's by inheritance, as ours."""
        try:
            yield
        except Exception as error:
            raise self._ours(error) from error

    def _ours(self, error: Exception) -> Exception:
        """Most specific first; the key in no message. LiteLLM wraps what breaks a stream in an
        error of its own."""
        import httpx
        import openai

        kind, status = type(error).__name__, getattr(error, "status_code", None)
        told = f"HTTP {status}: {without(self._key, str(error).partition(chr(10))[0])}"
        if isinstance(error, ModelError):
            return error
        if isinstance(inner := getattr(error, "original_exception", None), Exception):
            return self._ours(inner)
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
            return ModelIncapable(told)
        if isinstance(error, openai.APIError | httpx.TransportError | OSError):
            return ModelUnreachable(told)
        return InvalidOutput(f"not a chat completion stream: {without(self._key, str(error))}")


def _known(lite: Any, model: str) -> Mapping[str, Any]:
    """Of LiteLLM's table, where a model stands by its provider's name and its own, or by its
    own."""
    return lite.model_cost.get(model) or lite.model_cost.get(model.partition("/")[2]) or {}


def _listed(lite: Any, model: str) -> Price | None:
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
    """With its own price table instead of one fetched from elsewhere, and silent: it tells what it
    is asked on its own."""
    environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    lite: Any = importlib.import_module("litellm")
    lite.telemetry = False
    lite.suppress_debug_info = True
    lite.drop_params = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return lite
