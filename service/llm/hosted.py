"""Models at a provider, through LiteLLM, which covers the differences between providers.

LiteLLM takes seconds to import, so it is imported at first use, in a thread. What a provider can't
take raises an error; only what the answer doesn't depend on is left out, with a warning.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
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
from service.llm import About, OutgoingCall
from service.llm.openai import Compatible, rest_of, streaming
from service.schema import Price, Usage

CONNECT_S = 5.0
LONGEST_S = 3_600.0
"""Longer than any deadline. Without a time-out LiteLLM sets one of its own, so it gets this."""
BUSY = {429, 503, 529}
"""HTTP statuses of a provider that is overloaded."""


@dataclass(kw_only=True, eq=False, repr=False)
class Hosted(Compatible):
    """A model at a provider: one request a call, no retries. Without `api_key` LiteLLM reads the
    key from the provider's own environment variables; it reads the provider's other settings from
    there anyway (AWS_REGION_NAME, AZURE_API_BASE).

    `extra`: more arguments of a completion, by LiteLLM's names. `context`: how many tokens the
    model can hold; without it LiteLLM's table says. `warn(message)` is called once for each
    argument that had to be left out.
    """

    warn: Callable[[str], None] = lambda message: None
    _unable = {
        "grammar": "hosted models know no grammars and no token ids",
        "token": "hosted models know no token ids",
        "likelihoods": "hosted models tell no likelihoods",
    }
    _left_out: set[str] = field(default_factory=set, init=False)

    @cached_property
    def _always(self) -> dict[str, Any]:
        """Arguments that every completion gets."""
        import httpx

        return {
            **({"api_key": self.api_key} if self.api_key else {}),
            **({"api_base": self.base_url} if self.base_url else {}),
            "model": self.model,
            "num_retries": 0,
            "max_retries": 0,
            "timeout": httpx.Timeout(LONGEST_S, connect=CONNECT_S),
            **self.extra,
        }

    async def about(self) -> About:
        """Returns the model's name, and its context by LiteLLM's table if none is configured.
        Providers don't say when a name stands for another model."""
        context = _known(await _litellm(), self.model).get("max_input_tokens")
        return About(
            {"id": self.model}, self.context or (context if isinstance(context, int) else None)
        )

    async def _begin(self, call: OutgoingCall) -> Any:
        """Starts a completion and returns its stream, a context manager. Leaves the temperature
        out, with a warning, for a model that takes none: an answer doesn't depend on it."""
        try:
            with self._translated():
                return aclosing(await self._complete(**streaming(call), **self._body(call)))
        except ModelIncapable as error:
            if "temperature" not in error.message.lower() or "temperature" in self._left_out:
                raise
        self._left_out.add("temperature")
        self.warn(f"{self.model} takes no temperature: it is left out")
        return await self._begin(call)

    async def _complete(self, **arguments: Any) -> Any:
        lite = await _litellm()
        self.price = self.price or _listed_price(lite, self.model)
        body = arguments | self._always
        return await lite.acompletion(
            **{name: body[name] for name in body if name not in self._left_out}
        )

    async def _usage(self, reported: Any) -> Usage:
        """The reported tokens with their cost by LiteLLM's table; no cost where that has none."""
        usage = await super()._usage(reported)
        try:
            cost = (await _litellm()).cost_per_token(model=self.model, usage_object=reported)
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

        status = getattr(error, "status_code", None)
        headers = getattr(error, "litellm_response_headers", None) or {}
        inner = getattr(error, "original_exception", None)
        first_line = str(error).partition("\n")[0]
        message = f"HTTP {status}: {self._without_key(first_line)}"
        match error:
            case ModelError():
                return error
            case _ if isinstance(inner, Exception):
                return self._as_model_error(inner)
            case _ if type(error).__name__ == "ContentPolicyViolationError":
                return InvalidOutput("refused")
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return ModelIncapable(
                    f"HTTP {status}: the provider doesn't take this key for {self.model}"
                )
            case openai.APITimeoutError() | TimeoutError():
                return ModelTimeout(f"no connection within {CONNECT_S} s")
            case _ if isinstance(error, openai.RateLimitError) or status in BUSY:
                return ModelOverloaded(f"HTTP {status}", rest_s=rest_of(headers))
            case (
                openai.BadRequestError()
                | openai.NotFoundError()
                | openai.UnprocessableEntityError()
            ):
                return ModelIncapable(message)
            case openai.APIError() | httpx.TransportError() | OSError():
                return ModelUnreachable(message)
            case _:
                return InvalidOutput(
                    f"not a chat completion stream: {self._without_key(str(error))}"
                )


def _known(lite: Any, model: str) -> Mapping[str, Any]:
    """Returns a model's entry in LiteLLM's table, listed with its provider's name or without; {} if
    there is none."""
    return lite.model_cost.get(model) or lite.model_cost.get(model.partition("/")[2]) or {}


def _listed_price(lite: Any, model: str) -> Price | None:
    """Returns the price in LiteLLM's table, in dollars per million tokens; None if it has none."""
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
    """Imports LiteLLM and returns it, set to use its own price table instead of fetching one, and
    not to log or report what it is asked, as it does by default."""
    environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    lite: Any = importlib.import_module("litellm")
    lite.telemetry = False
    lite.suppress_debug_info = True
    lite.drop_params = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return lite
