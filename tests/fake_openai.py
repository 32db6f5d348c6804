"""An OpenAI-compatible server that behaves as badly as it is told to: for what happens on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

Manner = Literal["obeys", "ignores", "refuses", "no_logprobs", "hangs", "garbage", "fails", "plain_logprobs"]
STANDARD = {
    *("model", "messages", "prompt", "max_tokens", "temperature", "stream", "stream_options"),
    *("response_format", "logprobs", "top_logprobs"),
}


class FakeOpenAI:
    """`manner`: obeys constraints, ignores them with HTTP 200, refuses unknown fields with 400 or fails at them with 500, gives
    no log-probabilities, gives only plain ones, hangs, or sends garbage. May be changed while it runs; `asked`: the bodies so
    far; `version`: what it says of itself."""

    def __init__(self, manner: Manner) -> None:
        self.manner: Manner = manner
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
        return {"data": [{"id": "fake", "root": "fakes/fake", "max_model_len": 1_000, "created": len(self.asked)}]}

    async def told_version(self) -> dict[str, str]:
        return {"version": self.version}

    async def tokenize(self, request: Request) -> dict[str, Any]:
        text = (await request.json())["prompt"]
        return {"tokens": [ord(char) for char in text]}

    async def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.asked.append(body)
        if self.manner == "hangs":
            await asyncio.sleep(60)
        strange = set(body) - STANDARD
        if strange and self.manner in {"refuses", "fails"}:
            raise HTTPException(400 if self.manner == "refuses" else 500, f"unknown fields: {sorted(strange)}")
        if self.manner == "plain_logprobs" and body.get("top_logprobs", 0) > 20:
            raise HTTPException(400, "top_logprobs: at most 20")
        return body

    async def complete(self, request: Request) -> Any:
        body = await self._body(request)
        choices: list[dict[str, Any]] = []
        for n, prompt in enumerate(body["prompt"]):
            tells = self.manner == "obeys" and "prompt_logprobs" in body
            logs = [None, *({str(token): {"logprob": -1.0}} for token in prompt[1:])] if tells else None
            choices.append({"index": n, "text": "x", "finish_reason": "length", "prompt_logprobs": logs})
        read = sum(map(len, body["prompt"]))
        usage = {"prompt_tokens": read, "completion_tokens": 1, "total_tokens": read + 1}
        return {"id": "c", "object": "text_completion", "created": 0, "model": "fake", "choices": choices, "usage": usage}

    async def chat(self, request: Request) -> Any:
        body = await self._body(request)
        if self.manner == "garbage":
            return Response(b"data: {\x00 nonsense\n\n", media_type="text/event-stream")
        message = {"role": "assistant", "content": self._text(body)}
        choice = {"index": 0, "delta": message, "message": message, "finish_reason": "stop", "logprobs": self._logprobs(body)}
        told = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "fake", "usage": None}
        if not body.get("stream"):
            return told | {"object": "chat.completion", "choices": [choice]}
        shown = json.dumps(body["messages"])
        cached = self.manner == "obeys" and shown in self.seen
        self.seen.add(shown)
        usage = {"prompt_tokens": 400, "completion_tokens": 10, "total_tokens": 410}
        details = {"prompt_tokens_details": {"cached_tokens": 390}} if cached else {}
        chunks = [told | {"choices": [choice]}, told | {"choices": [], "usage": usage | details}]

        async def lines() -> AsyncIterator[str]:
            for chunk in chunks:
                yield f"data: {json.dumps(chunk)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    def _text(self, body: dict[str, Any]) -> str:
        grammar, shape = body.get("structured_outputs"), body.get("response_format")
        if self.manner in {"obeys", "no_logprobs"} and grammar:
            return str(grammar["grammar"].split('"')[1])
        if self.manner in {"obeys", "refuses"} and shape:
            schema = shape["json_schema"]["schema"]
            return json.dumps({name: rule["enum"][0] for name, rule in schema["properties"].items()})
        return "Hello, world!"

    def _logprobs(self, body: dict[str, Any]) -> dict[str, Any] | None:
        ids = body.get("logprob_token_ids") if self.manner == "obeys" else None
        names = [f"token_id:{one}" for one in ids] if ids else [f"t{n}" for n in range(body.get("top_logprobs", 0))]
        if not body.get("logprobs") or self.manner not in {"obeys", "ignores", "plain_logprobs"}:
            return None
        listed = [{"token": name, "logprob": -2.0, "bytes": None} for name in names]
        return {"content": [{"token": "x", "logprob": -1.0, "bytes": None, "top_logprobs": listed}]}
