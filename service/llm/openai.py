"""Any server that speaks OpenAI's chat protocol: llama.cpp, Ollama, SGLang, vLLM and the like.

Except with vLLM, only what all these servers have is used: a stream, usage, and a JSON schema,
which some refuse and some ignore; the probe finds out which.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from service.errors import (
    InvalidOutput,
    ModelError,
    ModelIncapable,
    ModelOverloaded,
    ModelTimeout,
    ModelUnreachable,
)
from service.llm import About, Likelihoods, OutgoingAsked, OutgoingCall, Piece
from service.llm.thinking import Thoughts
from service.schema import Price, Usage

if TYPE_CHECKING:
    import openai  # takes a second and a half: imported when a model is first asked

CONNECT_S = 2.0
LONGEST_REST_S = 3_600.0
"""Longest `retry-after` that is heeded."""
REMEMBERED = 65_536
"""For how many texts the token ids are cached."""


@dataclass(kw_only=True, eq=False, repr=False)
class Compatible:
    """A model on a server with an OpenAI-compatible API.

    There are no retries, as a retry would spend the caller's deadline, and there is no read
    time-out, as the caller's deadline closes the socket.

    `extra`: more fields of the request's body, which win over ours. `context`: how many tokens the
    model can hold, if the server doesn't say.
    """

    alias: str = field(kw_only=False)
    model: str
    base_url: str = ""
    api_key: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    context: int | None = None
    price: Price | None = None
    _unable = {
        "grammar": "backend openai knows no grammars and no token ids; backend vllm does",
        "token": "backend openai knows no token ids",
        "likelihoods": "backend openai tells no likelihoods",
    }
    _closed: bool = field(default=False, init=False)

    @cached_property
    def _client(self) -> openai.AsyncOpenAI:
        if self._closed:  # a late call must not open what nobody will close
            raise ModelUnreachable(f"{self.alias} is closed")
        import httpx
        import openai

        return openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.api_key or "none",
            max_retries=0,
            timeout=httpx.Timeout(None, connect=CONNECT_S),
        )

    async def about(self) -> About:
        """Returns what `/models` says of the model; its identity is empty for a server without
        `/models`."""
        identity, context = {}, None
        with suppress(ModelIncapable, InvalidOutput), self._translated():
            listed = await self._client.get("/models", cast_to=dict[str, Any])
            mine: dict[str, Any] = next(
                (model for model in listed["data"] if model["id"] == self.model), {}
            )
            identity = {
                name: str(mine[name])
                for name in ("id", "root", "max_model_len")
                if mine.get(name) is not None
            }
            # vLLM's name, else llama.cpp's
            context = mine.get("max_model_len") or dict(mine.get("meta") or {}).get("n_ctx")
        return About(identity, self.context or (context if isinstance(context, int) else None))

    async def stream(self, call: OutgoingCall) -> AsyncGenerator[Piece, None]:
        with self._translated():
            thoughts = Thoughts()
            logs: tuple[float, ...] = ()
            async with await self._begin(call) as chunks:
                async for chunk in chunks:
                    choice = chunk.choices[0] if chunk.choices else None
                    new_logs = self._logs(choice, call.tokens) if choice and not logs else ()
                    logs = logs or new_logs
                    text = thoughts.without(_text_of(choice)) if choice else ""
                    usage = getattr(chunk, "usage", None)
                    yield Piece(text, await self._usage(usage) if usage else None, new_logs)
            if call.tokens and not logs:
                raise ModelIncapable("log-probabilities of token ids were asked for, none came")
            if text := thoughts.rest():
                yield Piece(text)

    async def _begin(self, call: OutgoingCall) -> Any:
        """Starts a completion and returns its stream, a context manager."""
        return await self._complete(
            **streaming(call), extra_body={**self._body(call), **self.extra}
        )

    async def _complete(self, **arguments: Any) -> Any:
        return await self._client.chat.completions.create(
            **{"model": self.model, "temperature": 0, **arguments}
        )

    def _body(self, call: OutgoingCall) -> dict[str, Any]:
        """Returns the request's fields for the call's schema. Raises `ModelIncapable` for a grammar
        or token ids, which not every server knows."""
        if call.grammar or call.tokens:
            raise ModelIncapable(self._unable["grammar"])
        return schema_body(call)

    def _logs(self, choice: Any, tokens: Sequence[int]) -> tuple[float, ...]:
        """Returns the log-probabilities of `tokens` in a chunk; empty if it has none."""
        return ()

    async def token(self, word: str) -> int:
        raise ModelIncapable(self._unable["token"])

    async def likeliest(self, count: int) -> int:
        """Asks for the `count` likeliest first tokens by `top_logprobs`; returns how many came. Not
        to be used on a server that takes token ids: if one step of vLLM holds both kinds of
        questions, the answer to this kind is spoiled."""
        with self._translated():
            completion = await self._complete(
                messages=[{"role": "user", "content": "Say hello."}],
                max_tokens=1,
                logprobs=True,
                top_logprobs=count,
            )
            logs = getattr(completion.choices[0], "logprobs", None)
            return len(logs.content[0].top_logprobs) if logs is not None and logs.content else 0

    async def loglikelihoods(
        self, asked: Sequence[OutgoingAsked], *, apart: bool = False
    ) -> Likelihoods:
        raise ModelIncapable(self._unable["likelihoods"])

    async def close(self) -> None:
        """Closes the connections; later calls raise `ModelUnreachable`."""
        self._closed = True
        if "_client" in vars(self):
            await self._client.close()

    async def _usage(self, reported: Any) -> Usage:
        """The tokens that a server reports, as a `Usage`."""
        details = getattr(reported, "prompt_tokens_details", None)
        return Usage(
            prompt_tokens=reported.prompt_tokens,
            completion_tokens=reported.completion_tokens or 0,
            total_tokens=reported.total_tokens,
            cached_tokens=getattr(details, "cached_tokens", None) or 0,
        )

    def _without_key(self, message: str) -> str:
        """The beginning of a server's message, without the key, which some servers repeat."""
        return (message.replace(self.api_key, "…") if self.api_key else message)[:300]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises `ModelError`s in place of the client library's errors, most specific first."""
        import httpx
        import openai

        try:
            yield
        except openai.APITimeoutError as error:
            raise ModelTimeout(f"no connection within {CONNECT_S} s") from error
        except (openai.APIConnectionError, httpx.TransportError) as error:
            raise ModelUnreachable(f"connection lost or refused: {error}") from error
        except (openai.RateLimitError, openai.InternalServerError) as error:
            if error.status_code in {429, 503}:
                raise ModelOverloaded(
                    f"HTTP {error.status_code}", rest_s=rest_of(error.response.headers)
                ) from error
            raise ModelUnreachable(f"HTTP {error.status_code}") from error
        except openai.APIStatusError as error:
            raise ModelIncapable(
                f"HTTP {error.status_code}: {self._without_key(error.message)}"
            ) from error
        except openai.APIError as error:  # within a stream that began with HTTP 200
            message = self._without_key(error.message)
            if isinstance(error.body, dict) and str(error.body.get("code")).startswith("4"):
                raise ModelIncapable(f"refused: {message}") from error
            raise ModelError(f"broke off: {message}") from error
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InvalidOutput(f"not a chat completion stream: {error}") from error


@dataclass(kw_only=True, eq=False, repr=False)
class VLLM(Compatible):
    """A model of a vLLM server, with what only vLLM has: grammars, log-probabilities of tokens by
    id and of a prompt."""

    _tokens: dict[str, list[int]] = field(default_factory=dict, init=False)

    async def about(self) -> About:
        """Returns what `/models` says of the model, and the server's version by `/version`."""
        about = await super().about()
        with suppress(ModelIncapable, InvalidOutput), self._translated():
            answer = await self._client.get(self._beside("/version"), cast_to=dict[str, Any])
            return About({**about.identity, "version": str(answer["version"])}, about.context)
        return about

    def _body(self, call: OutgoingCall) -> dict[str, Any]:
        body = schema_body(call)
        if call.grammar:
            body["structured_outputs"] = {"grammar": call.grammar}
        if call.tokens:
            body |= {
                "logprobs": True,
                "logprob_token_ids": list(call.tokens),
                "return_tokens_as_token_ids": True,
            }
        return body

    def _logs(self, choice: Any, tokens: Sequence[int]) -> tuple[float, ...]:
        """Returns the log-probabilities of `tokens`. Raises `ModelIncapable` if the server left any
        out: a guess in its place would go unnoticed."""
        if choice.logprobs is None or not choice.logprobs.content:
            return ()
        listed = {entry.token: entry.logprob for entry in choice.logprobs.content[0].top_logprobs}
        logs = tuple(listed.get(f"token_id:{token}", -math.inf) for token in tokens)
        came = sum(map(math.isfinite, logs))
        if came < len(tokens):
            raise ModelIncapable(f"{came} of {len(tokens)} log-probabilities came")
        return logs

    async def token(self, word: str) -> int:
        tokens = await self._tokenized(word)
        if len(tokens) != 1:
            raise ModelIncapable(f"{word!r} is {len(tokens)} tokens")
        return tokens[0]

    async def loglikelihoods(
        self, asked: Sequence[OutgoingAsked], *, apart: bool = False
    ) -> Likelihoods:
        """Scores each text after its context, by `prompt_logprobs`. For every text the server reads
        the context again, whatever its prefix cache holds. Raises `InvalidOutput` for a context or
        text without tokens."""
        prompts = [
            (
                [token for piece in question.context for token in await self._tokenized(piece)],
                await self._tokenized(question.text),
            )
            for question in asked
        ]
        if not all(context and text for context, text in prompts):
            raise InvalidOutput("a context or text without tokens can't be scored")
        with self._translated():
            completion = await self._client.completions.create(
                model=self.model,
                prompt=[context + text for context, text in prompts],
                max_tokens=1,
                temperature=0,
                extra_body={"prompt_logprobs": 0},
            )
            # one entry for each token of the prompt, by prompt
            logs = {
                choice.index: cast(Any, choice).prompt_logprobs for choice in completion.choices
            }
            values = [
                sum(
                    float(logs[n][place][str(token)]["logprob"])
                    for place, token in enumerate(text, len(context))
                )
                for n, (context, text) in enumerate(prompts)
            ]
        return Likelihoods(values, await self._usage(completion.usage))

    def _beside(self, path: str) -> str:
        """The URL of vLLM's own `path`, which stands beside /v1."""
        return str(self._client.base_url.copy_with(path=path))

    async def _tokenized(self, text: str) -> list[int]:
        """A text's token ids, by `/tokenize`."""
        if text not in self._tokens:
            if len(self._tokens) >= REMEMBERED:
                self._tokens.clear()
            with self._translated():
                answer = await self._client.post(
                    self._beside("/tokenize"),
                    body={"model": self.model, "prompt": text, "add_special_tokens": False},
                    cast_to=dict[str, Any],
                )
                self._tokens[text] = [int(token) for token in answer["tokens"]]
        return self._tokens[text]


def load_client() -> None:
    """Imports the client library, so that the first call needn't wait for it."""
    import openai.resources.chat  # noqa: F401  importing is all that it shall do


def _text_of(choice: Any) -> str:
    """The text of one chunk's choice, without thoughts that the server puts into a field of their
    own. Raises `InvalidOutput` for a refusal."""
    if choice.finish_reason == "content_filter" or getattr(choice.delta, "refusal", None):
        raise InvalidOutput("refused")
    return choice.delta.content or ""


def rest_of(headers: Mapping[str, str]) -> float:
    """Seconds to wait before the next request, by the header `retry-after`; 0 without one."""
    seconds = str(headers.get("retry-after", ""))
    return min(float(seconds), LONGEST_REST_S) if seconds.replace(".", "", 1).isdigit() else 0.0


def streaming(call: OutgoingCall) -> dict[str, Any]:
    """The fields that the request of every call has."""
    return {
        "messages": call.messages,
        "max_tokens": call.max_tokens,
        "temperature": call.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def schema_body(call: OutgoingCall) -> dict[str, Any]:
    """The request's field for a call's JSON schema; {} for a call without one."""
    if not call.schema:
        return {}
    shape = {"name": "answer", "strict": True, "schema": dict(call.schema)}
    return {"response_format": {"type": "json_schema", "json_schema": shape}}
