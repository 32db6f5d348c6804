"""A vLLM server by its OpenAI-compatible URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx
import openai

from service.errors import InvalidOutput, ModelError, ModelIncapable, ModelOverloaded, ModelTimeout, ModelUnreachable
from service.llm import Call, Piece
from service.schema import Usage

CONNECT_S = 2.0


class VLLM:
    """No retries: a retry would spend the caller's deadline. No read time-out: the caller's deadline closes the socket."""

    def __init__(self, alias: str, *, model: str, base_url: str, api_key: str | None = None) -> None:
        self.alias = alias
        self._model = model
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key or "none", max_retries=0, timeout=timeout)

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        constraint: dict[str, Any] = {"structured_outputs": {"grammar": call.grammar}} if call.grammar else {}
        with _translated():
            answer = await self._client.chat.completions.create(
                model=self._model,
                messages=cast(Any, call.messages),
                max_tokens=call.max_tokens,
                temperature=call.temperature,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=constraint,
            )
            async with answer:
                async for chunk in answer:
                    text = (chunk.choices[0].delta.content or "") if chunk.choices else ""
                    yield Piece(text, _usage(chunk.usage) if chunk.usage else None)

    async def close(self) -> None:
        await self._client.close()


def _usage(usage: Any) -> Usage:
    details = usage.prompt_tokens_details
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
    )


@contextmanager
def _translated() -> Iterator[None]:
    """The client library's errors as ours, most specific first."""
    try:
        yield
    except openai.APITimeoutError as error:
        raise ModelTimeout(f"no connection within {CONNECT_S} s") from error
    except (openai.APIConnectionError, httpx.TransportError) as error:
        raise ModelUnreachable(f"connection lost or refused: {error}") from error
    except (openai.RateLimitError, openai.InternalServerError) as error:
        if error.status_code in {429, 503}:
            raise ModelOverloaded(f"HTTP {error.status_code}") from error
        raise ModelUnreachable(f"HTTP {error.status_code}") from error
    except openai.APIStatusError as error:
        raise ModelIncapable(f"HTTP {error.status_code}: {error.message[:300]}") from error
    except openai.APIError as error:
        raise ModelError(f"broke off: {error.message[:300]}") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidOutput(f"not a chat completion stream: {error}") from error
