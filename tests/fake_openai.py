"""An OpenAI-compatible server that behaves as badly as it is told to: for what happens on the
wire."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

Manner = Literal[
    "obeys",
    "ignores",
    "refuses",
    "no_logprobs",
    "hangs",
    "garbage",
    "fails",
    "plain_logprobs",
    "ranks",
    "slow",
    "busy",
    "broken",
    "locked",
    "cuts",
    "stalls",
    "schemaless",
    "sloppy",
    "prose",
    "foreign",
    "endless",
    "thinks",
    "filters",
]
RANKING = {
    "ranks",
    "slow",
    "cuts",
    "stalls",
    "schemaless",
    "sloppy",
    "prose",
    "foreign",
    "endless",
    "thinks",
    "filters",
}
"""Manners that answer the questions of a ranking: backwards."""
STANDARD = {
    *("model", "messages", "prompt", "max_tokens", "temperature", "stream", "stream_options"),
    *("response_format", "logprobs", "top_logprobs"),
}


class FakeOpenAI:
    """`manner`: obeys constraints, ignores them with HTTP 200, refuses unknown fields with 400 or
    fails at them with 500, gives no log-probabilities, gives only plain ones, hangs, or sends
    garbage.

    It ranks as it is asked to, or does so after `seconds`, is busy (429), broken (500), locked
    (401), cuts the stream or stalls in its middle, refuses every schema, wraps an answer with holes
    in prose, writes prose only, names letters that aren't there, never ends, thinks aloud first, or
    is stopped by a filter.

    May be changed while it runs; `asked`: the bodies so far; `version`: what it says of itself;
    `hung_up`: set when a client left before the end; `score`: what it gives the n-th number of a
    schema."""

    def __init__(
        self,
        manner: Manner,
        seconds: float = 0.3,
        score: Callable[[int], int] = lambda place: place,
    ) -> None:
        self.manner: Manner = manner
        self.seconds = seconds
        self.score = score
        self.hung_up = asyncio.Event()
        self.version = "1"
        self.asked: list[dict[str, Any]] = []
        self.seen: set[str] = set()
        self.app = FastAPI()
        self.app.get("/v1/models")(self.models)
        self.app.get("/version")(self.told_version)
        self.app.post("/tokenize")(self.tokenize)
        self.app.post("/v1/chat/completions")(self.chat)
        self.app.post("/v1/completions")(self.complete)

    async def models(self) -> dict[str, Any]:
        return {
            "data": [
                {
                    "id": "fake",
                    "root": "fakes/fake",
                    "max_model_len": 1_000,
                    "created": len(self.asked),
                }
            ]
        }

    async def told_version(self) -> dict[str, str]:
        return {"version": self.version}

    async def tokenize(self, request: Request) -> dict[str, Any]:
        text = (await request.json())["prompt"]
        return {"tokens": [ord(char) for char in text]}

    async def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.asked.append(body)
        if self.manner == "hangs":
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.hung_up.set()
        if self.manner == "slow":
            await asyncio.sleep(self.seconds)
        if self.manner == "busy":
            raise HTTPException(429, "too many", headers={"retry-after": "3"})
        if self.manner in {"broken", "locked"}:
            told = f"no service for {request.headers.get('authorization')}"
            raise HTTPException(500 if self.manner == "broken" else 401, told)
        if self.manner == "schemaless" and "response_format" in body:
            raise HTTPException(400, "response_format: unknown")
        strange = set(body) - STANDARD
        if strange and self.manner in {"refuses", "fails"}:
            raise HTTPException(
                400 if self.manner == "refuses" else 500, f"unknown fields: {sorted(strange)}"
            )
        if self.manner == "plain_logprobs" and body.get("top_logprobs", 0) > 20:
            raise HTTPException(400, "top_logprobs: at most 20")
        return body

    async def complete(self, request: Request) -> Any:
        body = await self._body(request)
        choices: list[dict[str, Any]] = []
        for n, prompt in enumerate(body["prompt"]):
            tells = self.manner == "obeys" and "prompt_logprobs" in body
            logs = (
                [None, *({str(token): {"logprob": -1.0}} for token in prompt[1:])]
                if tells
                else None
            )
            choices.append(
                {"index": n, "text": "x", "finish_reason": "length", "prompt_logprobs": logs}
            )
        read = sum(map(len, body["prompt"]))
        usage = {"prompt_tokens": read, "completion_tokens": 1, "total_tokens": read + 1}
        return {
            "id": "c",
            "object": "text_completion",
            "created": 0,
            "model": "fake",
            "choices": choices,
            "usage": usage,
        }

    async def chat(self, request: Request) -> Any:
        body = await self._body(request)
        if self.manner == "garbage":
            return Response(b"data: {\x00 nonsense\n\n", media_type="text/event-stream")
        message = {"role": "assistant", "content": self._text(body)}
        choice = {
            "index": 0,
            "delta": message,
            "message": message,
            "finish_reason": "stop",
            "logprobs": self._logprobs(body),
        }
        told = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "fake",
            "usage": None,
        }
        if not body.get("stream"):
            return told | {"object": "chat.completion", "choices": [choice]}
        shown = json.dumps(body["messages"])
        cached = self.manner == "obeys" and shown in self.seen
        self.seen.add(shown)
        usage = {"prompt_tokens": 400, "completion_tokens": 10, "total_tokens": 410}
        details = {"prompt_tokens_details": {"cached_tokens": 390}} if cached else {}
        chunks = [told | {"choices": [choice]}, told | {"choices": [], "usage": usage | details}]
        if self.manner in RANKING:
            chunks = [
                *(told | {"choices": [part]} for part in parts_of(message["content"], self.manner)),
                chunks[1],
            ]

        async def lines() -> AsyncIterator[str]:
            for n, chunk in enumerate(chunks):
                yield f"data: {json.dumps(chunk)}\n\n"
                if n == 1 and self.manner == "cuts":
                    raise ConnectionAbortedError
                if n == 1 and self.manner == "stalls":
                    try:
                        await asyncio.sleep(60)
                    finally:
                        self.hung_up.set()
            yield "data: [DONE]\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    def _text(self, body: dict[str, Any]) -> str:
        grammar, shape = body.get("structured_outputs"), body.get("response_format")
        if self.manner in {"obeys", "no_logprobs"} and grammar:
            return str(grammar["grammar"].split('"')[1])
        if self.manner in {"obeys", "refuses"} and shape:
            schema = shape["json_schema"]["schema"]
            rules = enumerate(schema["properties"].items())
            return json.dumps(
                {
                    name: rule["enum"][0] if "enum" in rule else self.score(place)
                    for place, (name, rule) in rules
                }
            )
        return (
            answer(body["messages"][-1]["content"], self.manner)
            if self.manner in RANKING
            else "Hello, world!"
        )

    def _logprobs(self, body: dict[str, Any]) -> dict[str, Any] | None:
        ids = body.get("logprob_token_ids") if self.manner == "obeys" else None
        names = (
            [f"token_id:{one}" for one in ids]
            if ids
            else [f"t{n}" for n in range(body.get("top_logprobs", 0))]
        )
        if not body.get("logprobs") or self.manner not in {"obeys", "ignores", "plain_logprobs"}:
            return None
        listed = [{"token": name, "logprob": -2.0, "bytes": None} for name in names]
        return {"content": [{"token": "x", "logprob": -1.0, "bytes": None, "top_logprobs": listed}]}


def parts_of(text: str, manner: Manner) -> list[dict[str, Any]]:
    """The choices of a stream: the text in four parts, after thoughts where they have a field of
    their own."""
    size = len(text) // 4 + 1
    deltas: list[dict[str, Any]] = [
        {"content": text[start : start + size]} for start in range(0, len(text), size)
    ]
    if manner == "thinks":
        deltas.insert(0, {"reasoning_content": 'B is best: {"A": 0}', "content": None})
    reason = "content_filter" if manner == "filters" else "stop"
    return [
        {"index": 0, "delta": {"role": "assistant"} | delta, "finish_reason": None}
        for delta in deltas
    ] + [{"index": 0, "delta": {}, "finish_reason": reason}]


def answer(asked: str, manner: Manner) -> str:
    """To a question of ours, as its text has it."""
    if "the labels of the facts" in asked:
        rows = re.findall(
            r"^Facts on ([A-Z]):\nf1\) (.+?)(?:, | and |$)", asked, flags=re.MULTILINE
        )[2:]
        lines = [f"- **{letter}** [f1]: It is also {fact}." for letter, fact in rows]
        return "\n".join(["Sure! Here is why:", "", *lines, "", "I hope that helps."])
    letters = re.findall(r'^([A-Z])\) "', asked.split("Candidates:")[-1], flags=re.MULTILINE)[::-1]
    if manner == "prose":
        return f"I would begin with {', then '.join(letters)}. A fine list!"
    if manner == "endless":
        return "so " * 350_000
    if manner == "foreign":
        letters = list("QRSTUVWX")[: len(letters)]
    scores: dict[str, int] = {letter: 9 - place for place, letter in enumerate(letters)}
    if manner == "sloppy":
        scores = {**dict(list(scores.items())[1:]), "x": 3}
    said = json.dumps(scores if "whole number" in asked else {"order": [*scores]})
    if manner == "thinks":
        return (
            f"\n<think>Perhaps {json.dumps(dict.fromkeys(scores, 0))}, or [A, B]?</think>\n\n{said}"
        )
    return f"Of course:\n```json\n{said}\n```\nEnjoy {{them}}!" if manner == "sloppy" else said
