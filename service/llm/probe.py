"""What a model is able to do, found out by asking for what it would never do unasked; asked once,
and again after a change.

A server that takes a constraint and ignores it answers with HTTP 200, so nothing it says of itself
is believed.
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
from service.llm import LLM, About, Asked, Call, Scorer
from service.schema import Capabilities, Usage, Value

WORD = "qxj"
"""No model says this of itself."""
GRAMMAR = f'start: "{WORD}"\n'
SCHEMA = {
    "type": "object",
    "properties": {WORD: {"type": "string", "enum": [WORD]}},
    "required": [WORD],
    "additionalProperties": False,
}
MOST = (128, 26, 20, 5)
"""Numbers of log-probabilities to try: vLLM's bound for token ids, a letter each, OpenAI's bound,
and few."""
COUNTED = " ".join(f"item {n} of many" for n in range(40))
"""Longer than a block of any prefix cache (vLLM's on a CPU holds 128 tokens)."""
WRITTEN = 12
LOADING = 5
"""Weights in this process may take so many times as long as an answer: they are loaded at first
use."""

Got = TypeVar("Got")


class Probes:
    """Abilities of the `models` by alias, in memory (`known`) and in `folder`. `configured`: what
    identifies each beside what it says of itself. `failed(message)`: a file there can't be read or
    written; the model is asked again then."""

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
        """Asked only if the model is not the one that was asked before, or `anew`. No call may take
        longer than `seconds`.

        Raises a `ModelError` if it doesn't answer at all; what was known of it stays.
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
            found = None if anew else await asyncio.to_thread(self._read, file, mark)
            if found is None:
                found = await probe(model, about, at=self._clock(), seconds=seconds)
                await asyncio.to_thread(
                    self._write, file, _KeptCapabilities(fingerprint=mark, capabilities=found)
                )
            self._prints[alias], self.known[alias] = mark, found
            return found

    def _read(self, file: Path, fingerprint: str) -> Capabilities | None:
        """None for another model's, and for a file that can't be read as one of ours."""
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
        """Whole or not at all, whoever else writes it."""
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
        """The least that shows a model at work. Raises a `ModelError` if it isn't."""
        model = self._models[alias]
        if isinstance(model, LLM):
            await _say(model, Call(_QUESTION, max_tokens=1))
        else:
            await model.loglikelihoods([Asked(("Hello",), " world")], context=CallContext())


async def probe(model: Scorer, about: About, *, at: datetime, seconds: float) -> Capabilities:
    """Raises a `ModelError` if a plain question gets no answer within `seconds`; whatever else
    fails is an inability."""
    if isinstance(model, LLM):
        return await _Probe(model, seconds).capabilities(about, at)
    await _within(
        LOADING * seconds,
        model.loglikelihoods([Asked(("Hello",), " world")], context=CallContext()),
    )
    start = time.perf_counter()
    found = await _within(
        seconds,
        model.loglikelihoods([Asked((f"{uuid.uuid4()} ",), COUNTED)], context=CallContext()),
    )
    rate = _rate(found.usage.prompt_tokens - found.usage.cached_tokens, time.perf_counter() - start)
    return Capabilities(prompt_logprobs=True, context=about.context, read_tps=rate, at=at)


@dataclass
class _Said:
    """`first_s`, `whole_s`: seconds until its first and its last piece."""

    text: str = ""
    usage: Usage = Usage()
    logs: int = 0
    first_s: float = 0
    whole_s: float = 0


class _Probe:
    def __init__(self, llm: LLM, seconds: float) -> None:
        self._llm = llm
        self._seconds = seconds

    async def capabilities(self, about: About, at: datetime) -> Capabilities:
        long = [{"role": "user", "content": f"{uuid.uuid4()} {COUNTED}. Count from 1 to 20."}]
        plain = await self._ask(Call(long, max_tokens=WRITTEN))
        if not plain.text and not plain.usage.total_tokens:
            raise InvalidOutput("it says nothing")
        again = await self._ask(Call(long, max_tokens=1))
        by_id = await self._most(self._by_id)
        return Capabilities(
            grammar=await self._tried(self._obeys_grammar(), otherwise=False),
            json_schema=await self._tried(self._schema(), otherwise="refused"),
            token_logprobs=by_id > 0,
            # plain ones only where ids don't work: on vLLM a plain question spoils others'
            # questions by id, and they it
            top_logprobs=by_id or await self._most(self._plain),
            prompt_logprobs=await self._tried(self._tells_likelihoods(), otherwise=False),
            context=about.context,
            cached_tokens=again.usage.cached_tokens > 0,
            read_tps=_rate(plain.usage.prompt_tokens - plain.usage.cached_tokens, plain.first_s),
            write_tps=_rate(plain.usage.completion_tokens - 1, plain.whole_s - plain.first_s),
            at=at,
        )

    async def _obeys_grammar(self) -> bool:
        return (await self._ask(Call(_QUESTION, max_tokens=16, grammar=GRAMMAR))).text == WORD

    async def _schema(self) -> Literal["enforced", "accepted"]:
        said = (await self._ask(Call(_QUESTION, max_tokens=48, schema=SCHEMA))).text
        return "enforced" if "".join(said.split()) == f'{{"{WORD}":"{WORD}"}}' else "accepted"

    async def _tells_likelihoods(self) -> bool:
        found = await _within(
            self._seconds,
            self._llm.loglikelihoods([Asked(("Hello",), " world")], context=CallContext()),
        )
        return len(found.values) == 1

    async def _by_id(self, count: int) -> int:
        """Which tokens these ids are doesn't matter."""
        return (await self._ask(Call(_QUESTION, max_tokens=1, tokens=tuple(range(count))))).logs

    async def _plain(self, count: int) -> int:
        return await _within(self._seconds, self._llm.likeliest(count))

    async def _most(self, got: Callable[[int], Coroutine[Any, Any, int]]) -> int:
        for count in MOST:
            if await self._tried(got(count), otherwise=0) == count:
                return count
        return 0

    async def _tried(self, question: Coroutine[Any, Any, Got], *, otherwise: Got) -> Got:
        """`otherwise` if this question can't be answered; the error if none can."""
        try:
            return await question
        except (ModelIncapable, InvalidOutput):
            return otherwise
        except ModelOverloaded:
            raise
        except ModelError:  # some servers answer with a 500, or never, to what they don't know
            await self._ask(Call(_QUESTION, max_tokens=1))
            return otherwise

    async def _ask(self, call: Call) -> _Said:
        return await _within(self._seconds, _say(self._llm, call))


_QUESTION = [{"role": "user", "content": "Say hello to the world in plain words."}]


async def _say(llm: LLM, call: Call) -> _Said:
    said, start = _Said(), time.perf_counter()
    async with aclosing(llm.stream(call)) as pieces:
        async for piece in pieces:
            said.first_s = said.first_s or time.perf_counter() - start
            said.text += piece.text
            said.usage = piece.usage or said.usage
            said.logs = said.logs or len(piece.logs)
    said.whole_s = time.perf_counter() - start
    return said


async def _within(seconds: float, question: Coroutine[Any, Any, Got]) -> Got:
    try:
        async with asyncio.timeout(seconds):
            return await question
    except TimeoutError as error:
        raise ModelTimeout(f"no answer within {seconds:g} s") from error


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds, 1) if tokens > 0 and seconds > 0 else None


# ── kept on disk ──────────────────────────────────────────────────────────────────────────────────


class _KeptCapabilities(Value):
    fingerprint: str
    capabilities: Capabilities


def _fingerprint(configured: str, about: About) -> str:
    return hashlib.sha256(repr((configured, sorted(about.told.items()))).encode()).hexdigest()[:16]
