"""Finds out what a model can do, by asking for what it would never do of itself.

A server that takes a constraint and ignores it answers with HTTP 200, so what it says of itself is
not believed. A model is probed once, and again when it has changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from service.context import CallContext
from service.errors import InvalidOutput, ModelError, ModelIncapable, ModelOverloaded, ModelTimeout
from service.llm import LLM, About, Asked, Call, Likelihoods, Scorer
from service.schema import Capabilities, Usage, Value

WORD = "qxj"
"""A word that no model writes unless it must."""
GRAMMAR = f'start: "{WORD}"\n'
SCHEMA = {
    "type": "object",
    "properties": {WORD: {"type": "string", "enum": [WORD]}},
    "required": [WORD],
    "additionalProperties": False,
}
MOST = (128, 26, 20, 5)
"""Numbers of log-probabilities to try: vLLM's bound for token ids, one for each letter, OpenAI's
bound, and a few."""
COUNTED = " ".join(f"item {n} of many" for n in range(40))
"""A text longer than a block of any prefix cache (vLLM's on a CPU holds 128 tokens)."""
WRITTEN = 12
"""Tokens that the model is let write, to measure its speed."""
LOADING = 5
"""The first answer of a model that only scores may take this many times `seconds`: weights in this
process are loaded at first use."""

Got = TypeVar("Got")


class Probes:
    """What each of the `models` can do, by alias: in memory (`known`) and in files of `folder`.

    `configured`: the part of a model's identity that stands in the configuration.
    `failed(message)` is called for a file that can't be read or written; the model is then probed
    again.
    """

    def __init__(
        self,
        folder: Path,
        models: Mapping[str, Scorer],
        configured: Mapping[str, str],
        clock: Callable[[], datetime],
        failed: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.known: dict[str, Capabilities] = {}
        self._folder = folder
        self._models = models
        self._configured = configured
        self._clock = clock
        self._failed = failed
        self._prints: dict[str, str] = {}
        self._one_at_a_time = {alias: asyncio.Lock() for alias in models}

    async def of(self, alias: str, *, seconds: float, anew: bool = False) -> Capabilities:
        """Returns what a model can do. Probes the model if it has changed since the last probe, or
        if `anew`. `seconds`: how long each call may take.

        Raises a `ModelError` if the model doesn't answer at all; what was known of it stays.
        """
        model = self._models.get(alias)
        if model is None:
            raise ModelIncapable(f"{alias}: left out at start: see the log")
        async with self._one_at_a_time[alias]:
            about = await _within(seconds, model.about())
            mark = _fingerprint(self._configured.get(alias, ""), about)
            if not anew and self._prints.get(alias) == mark:
                return self.known[alias]
            file = self._folder / f"{alias}.json"
            capabilities = None if anew else await asyncio.to_thread(self._read, file, mark)
            if capabilities is None:
                capabilities = await probe(model, about, at=self._clock(), seconds=seconds)
                await asyncio.to_thread(
                    self._write,
                    file,
                    _KeptCapabilities(fingerprint=mark, capabilities=capabilities),
                )
            self._prints[alias], self.known[alias] = mark, capabilities
            return capabilities

    def _read(self, file: Path, fingerprint: str) -> Capabilities | None:
        """Returns the capabilities in a file; None if they are another model's, or can't be
        read."""
        try:
            kept = _KeptCapabilities.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            self._failed(
                f"{file}: no capabilities of a model, so it is asked again: "
                f"{' '.join(f'{error}'.split())}"
            )
            return None
        return kept.capabilities if kept.fingerprint == fingerprint else None

    def _write(self, file: Path, kept: _KeptCapabilities) -> None:
        """Writes the file in one step: a reader never sees half of one."""
        new = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(kept.model_dump_json(indent=2))
            new.replace(file)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            self._failed(
                f"{file}: can't be written, so the next start asks the model again: {error}"
            )

    async def answers(self, alias: str) -> None:
        """Asks a model the shortest possible question. Raises a `ModelError` if it doesn't
        answer."""
        model = self._models[alias]
        if isinstance(model, LLM):
            await _answer(model, Call(_QUESTION, max_tokens=1))
        else:
            await _scored(model)


async def probe(model: Scorer, about: About, *, at: datetime, seconds: float) -> Capabilities:
    """Returns what a model can do, found out within `seconds` a question. Raises a `ModelError` if
    a plain question gets no answer; if any other question fails, the model lacks that ability."""
    if isinstance(model, LLM):
        return await _Probe(model, seconds).capabilities(about, at)
    await _within(LOADING * seconds, _scored(model))
    start = time.perf_counter()
    usage = (await _within(seconds, _scored(model, f"{uuid.uuid4()} ", COUNTED))).usage
    rate = _rate(usage.prompt_tokens - usage.cached_tokens, time.perf_counter() - start)
    return Capabilities(prompt_logprobs=True, context=about.context, read_tps=rate, at=at)


@dataclass
class _TimedAnswer:
    """An answer of a model. `logs`: how many log-probabilities came; `first_s`, `whole_s`: seconds
    until its first and its last piece."""

    text: str = ""
    usage: Usage = Usage()
    logs: int = 0
    first_s: float = 0
    whole_s: float = 0


@dataclass(frozen=True)
class _Probe:
    """Asks one model that writes; each question may take `seconds`."""

    llm: LLM
    seconds: float

    async def capabilities(self, about: About, at: datetime) -> Capabilities:
        long = [{"role": "user", "content": f"{uuid.uuid4()} {COUNTED}. Count from 1 to 20."}]
        plain = await self._ask(Call(long, max_tokens=WRITTEN))
        if not plain.text and not plain.usage.total_tokens:
            raise InvalidOutput("it says nothing")
        again = await self._ask(Call(long, max_tokens=1))
        by_id = await self._most(self._logs_by_id)
        return Capabilities(
            grammar=await self._tried(self._obeys_grammar(), otherwise=False),
            json_schema=await self._tried(self._follows_schema(), otherwise="refused"),
            token_logprobs=by_id > 0,
            # only where ids don't work: in one step of vLLM the two kinds of questions spoil each
            # other's answers
            top_logprobs=by_id or await self._most(self.llm.likeliest),
            prompt_logprobs=await self._tried(_scored(self.llm), otherwise=None) is not None,
            context=about.context,
            cached_tokens=again.usage.cached_tokens > 0,
            read_tps=_rate(plain.usage.prompt_tokens - plain.usage.cached_tokens, plain.first_s),
            write_tps=_rate(plain.usage.completion_tokens - 1, plain.whole_s - plain.first_s),
            at=at,
        )

    async def _obeys_grammar(self) -> bool:
        return (await self._ask(Call(_QUESTION, max_tokens=16, grammar=GRAMMAR))).text == WORD

    async def _follows_schema(self) -> Literal["enforced", "accepted"]:
        text = (await self._ask(Call(_QUESTION, max_tokens=48, schema=SCHEMA))).text
        return "enforced" if "".join(text.split()) == f'{{"{WORD}":"{WORD}"}}' else "accepted"

    async def _logs_by_id(self, count: int) -> int:
        """Returns how many log-probabilities come if those of the token ids 0 to `count` − 1 are
        asked for."""
        return (await self._ask(Call(_QUESTION, max_tokens=1, tokens=tuple(range(count))))).logs

    async def _most(self, number_for: Callable[[int], Coroutine[Any, Any, int]]) -> int:
        """Returns the largest number in `MOST` for which all log-probabilities come; 0 if there is
        none."""
        for count in MOST:
            if await self._tried(number_for(count), otherwise=0) == count:
                return count
        return 0

    async def _tried(self, question: Coroutine[Any, Any, Got], *, otherwise: Got) -> Got:
        """Returns the answer, or `otherwise` if the model can't answer this question. Raises a
        `ModelError` if the model is overloaded, or if a plain question fails too."""
        try:
            return await _within(self.seconds, question)
        except (ModelIncapable, InvalidOutput):
            return otherwise
        except ModelOverloaded:
            raise
        except ModelError:  # some servers answer with a 500, or never, to what they don't know
            await self._ask(Call(_QUESTION, max_tokens=1))
            return otherwise

    async def _ask(self, call: Call) -> _TimedAnswer:
        return await _within(self.seconds, _answer(self.llm, call))


_QUESTION = [{"role": "user", "content": "Say hello to the world in plain words."}]


async def _answer(llm: LLM, call: Call) -> _TimedAnswer:
    answer, start = _TimedAnswer(), time.perf_counter()
    async with aclosing(llm.stream(call)) as pieces:
        async for piece in pieces:
            answer.first_s = answer.first_s or time.perf_counter() - start
            answer.text += piece.text
            answer.usage = piece.usage or answer.usage
            answer.logs = answer.logs or len(piece.logs)
    answer.whole_s = time.perf_counter() - start
    return answer


async def _scored(model: Scorer, context: str = "Hello", text: str = " world") -> Likelihoods:
    return await model.loglikelihoods([Asked((context,), text)], context=CallContext())


async def _within(seconds: float, question: Coroutine[Any, Any, Got]) -> Got:
    """Returns the answer to `question`. Raises `ModelTimeout` if it takes longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await question
    except TimeoutError as error:
        raise ModelTimeout(f"no answer within {seconds:g} s") from error


def _rate(tokens: int, seconds: float) -> float | None:
    """Tokens per second; None for no tokens or no time."""
    return round(tokens / seconds, 1) if tokens > 0 and seconds > 0 else None


# ── kept on disk ──────────────────────────────────────────────────────────────────────────────────


class _KeptCapabilities(Value):
    fingerprint: str
    capabilities: Capabilities


def _fingerprint(configured: str, about: About) -> str:
    """A text that changes when the model does."""
    identity = repr((configured, sorted(about.identity.items())))
    return hashlib.sha256(identity.encode()).hexdigest()[:16]
