"""A vLLM server by its OpenAI-compatible URL."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import httpx
import openai

from service.errors import InvalidOutput, ModelError, ModelIncapable, ModelOverloaded, ModelTimeout, ModelUnreachable
from service.llm import About, Asked, Call, Likelihoods, Piece
from service.schema import Usage

CONNECT_S = 2.0
REMEMBERED = 65_536
"""So many texts' tokens are kept."""


class VLLM:
    """No retries: a retry would spend the caller's deadline. No read time-out: the caller's deadline closes the socket."""

    def __init__(self, alias: str, *, model: str, base_url: str, api_key: str | None = None) -> None:
        self.alias = alias
        self._model = model
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key or "none", max_retries=0, timeout=timeout)
        self._chat = self._client.chat.completions  # the first look at it imports for half a second
        self._tokens: dict[str, list[int]] = {}

    async def about(self) -> About:
        """By `/models`, and vLLM's own `/version`, which stands beside /v1. A server without either says nothing of itself."""
        told, context = {}, None
        with suppress(ModelIncapable, InvalidOutput):
            listed = await self._get("/models")
            with _translated():
                mine: dict[str, Any] = next((one for one in listed["data"] if one["id"] == self._model), {})
            told = {name: str(mine[name]) for name in ("id", "root", "max_model_len") if mine.get(name) is not None}
            context = mine.get("max_model_len")
        with suppress(ModelIncapable, InvalidOutput):
            told["version"] = str((await self._get(str(self._client.base_url.copy_with(path="/version"))))["version"])
        return About(told, context if isinstance(context, int) else None)

    async def _get(self, url: str) -> dict[str, Any]:
        with _translated():
            return dict(await self._client.get(url, cast_to=dict[str, Any]))

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        with _translated():
            answer = await self._chat.create(
                model=self._model,
                messages=cast(Any, call.messages),
                max_tokens=call.max_tokens,
                temperature=call.temperature,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=_extra(call),
            )
            logs: tuple[float, ...] = ()
            async with answer:
                async for chunk in answer:
                    choice = chunk.choices[0] if chunk.choices else None
                    found = _logs(choice, call.tokens) if choice is not None and call.tokens and not logs else ()
                    logs = logs or found
                    text = (choice.delta.content or "") if choice is not None else ""
                    yield Piece(text, _usage(chunk.usage) if chunk.usage else None, found)
            if call.tokens and not logs:
                raise ModelIncapable("log-probabilities of token ids were asked for, none came")

    async def token(self, word: str) -> int:
        tokens = await self._tokenized(word)
        if len(tokens) != 1:
            raise ModelIncapable(f"{word!r} is {len(tokens)} tokens")
        return tokens[0]

    async def likeliest(self, count: int) -> int:
        """By `top_logprobs`. Not for a server that takes token ids: a step of vLLM that holds both spoils this one."""
        with _translated():
            found = await self._chat.create(
                model=self._model,
                messages=[{"role": "user", "content": "Say hello."}],
                max_tokens=1,
                temperature=0,
                logprobs=True,
                top_logprobs=count,
            )
            logs = found.choices[0].logprobs
            return len(logs.content[0].top_logprobs) if logs is not None and logs.content else 0

    async def loglikelihoods(self, asked: Sequence[Asked]) -> Likelihoods:
        """By `prompt_logprobs`: every context is read again for every text, whatever the prefix cache holds."""
        contexts = [[token for piece in one.context for token in await self._tokenized(piece)] for one in asked]
        texts = [await self._tokenized(one.text) for one in asked]
        if not all(contexts) or not all(texts):
            raise InvalidOutput("a context or text without tokens can't be scored")
        with _translated():
            found = await self._client.completions.create(
                model=self._model,
                prompt=[context + text for context, text in zip(contexts, texts, strict=True)],
                max_tokens=1,
                temperature=0,
                extra_body={"prompt_logprobs": 0},
            )
            by_index = {choice.index: cast(Any, choice).prompt_logprobs for choice in found.choices}
            values = [
                sum(_of(by_index[n][len(context) + place], token) for place, token in enumerate(text))
                for n, (context, text) in enumerate(zip(contexts, texts, strict=True))
            ]
        return Likelihoods(values, _usage(found.usage))

    async def _tokenized(self, text: str) -> list[int]:
        """vLLM's own /tokenize, which stands beside /v1."""
        if text not in self._tokens:
            if len(self._tokens) >= REMEMBERED:
                self._tokens.clear()
            with _translated():
                url = self._client.base_url.copy_with(path="/tokenize")
                body = {"model": self._model, "prompt": text, "add_special_tokens": False}
                found = await self._client.post(str(url), body=body, cast_to=dict[str, Any])
                self._tokens[text] = [int(token) for token in found["tokens"]]
        return self._tokens[text]

    async def close(self) -> None:
        await self._client.close()


def _extra(call: Call) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if call.grammar:
        extra["structured_outputs"] = {"grammar": call.grammar}
    if call.schema:
        shape = {"name": "answer", "strict": True, "schema": dict(call.schema)}
        extra["response_format"] = {"type": "json_schema", "json_schema": shape}
    if call.tokens:
        extra |= {"logprobs": True, "logprob_token_ids": list(call.tokens), "return_tokens_as_token_ids": True}
    return extra


def _logs(choice: Any, tokens: Sequence[int]) -> tuple[float, ...]:
    """All of them, or `ModelIncapable`: a missing one would be a coin toss nobody sees."""
    if choice.logprobs is None or not choice.logprobs.content:
        return ()
    listed = {entry.token: entry.logprob for entry in choice.logprobs.content[0].top_logprobs}
    logs = tuple(listed.get(f"token_id:{token}", -math.inf) for token in tokens)
    if not all(map(math.isfinite, logs)):
        raise ModelIncapable(f"{sum(map(math.isfinite, logs))} of {len(tokens)} log-probabilities came")
    return logs


def _of(place: Any, token: int) -> float:
    return float(place[str(token)]["logprob"])


def _usage(usage: Any) -> Usage:
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens or 0,
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
    except openai.APIError as error:  # told inside of a stream that began with HTTP 200
        refused = isinstance(error.body, dict) and str(error.body.get("code")).startswith("4")
        kind = ModelIncapable if refused else ModelError
        raise kind(f"{'refused' if refused else 'broke off'}: {error.message[:300]}") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidOutput(f"not a chat completion stream: {error}") from error
