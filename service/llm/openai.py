"""Any server that speaks OpenAI's chat protocol: llama.cpp, Ollama, SGLang and the like.

Only what all of them have is used: a stream, usage, and a JSON schema, which some refuse and some
ignore; the probe finds out which.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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


class Compatible:
    """A model of a server, by its URL.

    There are no retries, as a retry would spend the caller's deadline, and there is no read
    time-out, as the caller's deadline closes the socket.

    `extra`: more fields of the request's body, which win over ours. `context`: how many tokens the
    model can hold, if the server doesn't say.
    """

    price: Price | None = None

    def __init__(
        self,
        alias: str,
        *,
        model: str,
        base_url: str,
        api_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
        context: int | None = None,
    ) -> None:
        self.alias = alias
        self._model = model
        self._key = api_key
        self._extra = dict(extra or {})
        self._context = context
        self._base_url = base_url
        self._closed = False

    @cached_property
    def _client(self) -> openai.AsyncOpenAI:
        if self._closed:  # a late call must not open what nobody will close
            raise ModelUnreachable(f"{self.alias} is closed")
        import httpx
        import openai

        timeout = httpx.Timeout(None, connect=CONNECT_S)
        return openai.AsyncOpenAI(
            base_url=self._base_url, api_key=self._key or "none", max_retries=0, timeout=timeout
        )

    async def about(self) -> About:
        """By `/models`; empty for a server without it."""
        identity, context = {}, None
        with suppress(ModelIncapable, InvalidOutput):
            listed = await self._get("/models")
            with self._translated():
                models = (model for model in listed["data"] if model["id"] == self._model)
                mine: dict[str, Any] = next(models, {})
            names = ("id", "root", "max_model_len")
            identity = {name: str(mine[name]) for name in names if mine.get(name) is not None}
            # vLLM's name, else llama.cpp's
            context = mine.get("max_model_len") or dict(mine.get("meta") or {}).get("n_ctx")
        return About(identity, self._context or (context if isinstance(context, int) else None))

    async def _get(self, url: str) -> dict[str, Any]:
        with self._translated():
            return dict(await self._client.get(url, cast_to=dict[str, Any]))

    async def stream(self, call: OutgoingCall) -> AsyncGenerator[Piece, None]:
        body = self._body(call) | self._extra
        with self._translated():
            answer = await self._client.chat.completions.create(
                model=self._model,
                messages=cast(Any, call.messages),
                max_tokens=call.max_tokens,
                temperature=call.temperature,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=body,
            )
            thoughts = Thoughts()
            logs: tuple[float, ...] = ()
            async with answer:
                async for chunk in answer:
                    text = ""
                    new_logs: tuple[float, ...] = ()
                    if chunk.choices:
                        choice = chunk.choices[0]
                        if call.tokens and not logs:
                            logs = new_logs = self._logs(choice, call.tokens)
                        text = thoughts.without(delta_text(choice))
                    yield Piece(text, self._usage(chunk.usage) if chunk.usage else None, new_logs)
            if call.tokens and not logs:
                raise ModelIncapable("log-probabilities of token ids were asked for, none came")
            if text := thoughts.rest():
                yield Piece(text)

    def _body(self, call: OutgoingCall) -> dict[str, Any]:
        """Fields of the request beyond those that every one has. Raises `ModelIncapable` for what
        not every such server can do."""
        if call.grammar or call.tokens:
            raise ModelIncapable(
                "backend openai knows no grammars and no token ids; backend vllm does"
            )
        return schema_body(call)

    def _logs(self, choice: Any, tokens: Sequence[int]) -> tuple[float, ...]:
        """The log-probabilities of these tokens in a chunk; empty if it has none."""
        return ()

    async def token(self, word: str) -> int:
        raise ModelIncapable("backend openai knows no token ids")

    async def likeliest(self, count: int) -> int:
        """By `top_logprobs`. Not to be used on a server that takes token ids: where one step of
        vLLM holds both kinds of questions, this one's answer is spoiled."""
        with self._translated():
            completion = await self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": "Say hello."}],
                max_tokens=1,
                temperature=0,
                logprobs=True,
                top_logprobs=count,
            )
            logs = completion.choices[0].logprobs
            return len(logs.content[0].top_logprobs) if logs is not None and logs.content else 0

    async def loglikelihoods(
        self, asked: Sequence[OutgoingAsked], *, apart: bool = False
    ) -> Likelihoods:
        raise ModelIncapable("backend openai tells no likelihoods")

    async def close(self) -> None:
        """Closes the connections; later calls raise `ModelUnreachable`."""
        self._closed = True
        if "_client" in vars(self):
            await self._client.close()

    def _usage(self, usage: Any) -> Usage:
        return usage_of(usage)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises `ModelError`s in place of the client library's errors, most specific first. The
        key, which some servers repeat, is taken out of their messages."""
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
                f"HTTP {error.status_code}: {without_key(self._key, error.message)}"
            ) from error
        except openai.APIError as error:  # within a stream that began with HTTP 200
            refused = isinstance(error.body, dict) and str(error.body.get("code")).startswith("4")
            kind = ModelIncapable if refused else ModelError
            raise kind(
                f"{'refused' if refused else 'broke off'}: {without_key(self._key, error.message)}"
            ) from error
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InvalidOutput(f"not a chat completion stream: {error}") from error


def load_client() -> None:
    """Imports what the first call would wait for."""
    import openai.resources.chat  # noqa: F401  importing is all that it shall do


def delta_text(choice: Any) -> str:
    """The text of one chunk's choice, without thoughts that the server puts into a field of their
    own. Raises `InvalidOutput` for a refusal."""
    if choice.finish_reason == "content_filter" or getattr(choice.delta, "refusal", None):
        raise InvalidOutput("refused")
    return choice.delta.content or ""


def rest_of(headers: Mapping[str, str]) -> float:
    """Seconds to wait before the next request, by the header `retry-after`; 0 without one."""
    seconds = str(headers.get("retry-after", ""))
    return min(float(seconds), LONGEST_REST_S) if seconds.replace(".", "", 1).isdigit() else 0.0


def schema_body(call: OutgoingCall) -> dict[str, Any]:
    """The request's field for a call's JSON schema; {} for a call without one."""
    if not call.schema:
        return {}
    shape = {"name": "answer", "strict": True, "schema": dict(call.schema)}
    return {"response_format": {"type": "json_schema", "json_schema": shape}}


def usage_of(usage: Any) -> Usage:
    """The tokens that a server reports, as a `Usage`."""
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens or 0,
        total_tokens=usage.total_tokens,
        cached_tokens=(getattr(details, "cached_tokens", None) or 0) if details else 0,
    )


def without_key(key: str | None, message: str) -> str:
    """The beginning of a server's message, with the key taken out."""
    return (message.replace(key, "…") if key else message)[:300]
