"""An OpenAI-compatible server that takes its time, and notes who hung up when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from service.llm import Call
from tests.conftest import backwards


@dataclass
class Asked:
    """`at`, `hung_up_at`: times of the event loop; `over`: it was answered, or nobody waits for it any more."""

    at: float
    hung_up_at: float | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class SlowEngine:
    """Each answer is whole after `seconds` (reasons: after `reasons_s`): silence for the first half, words in the second. It
    ranks in reverse. `asked`: for a ranking and for reasons; `heard`: was anything asked for?"""

    def __init__(self, seconds: float, reasons_s: float | None = None) -> None:
        self.seconds = {"rank": seconds, "explain": seconds if reasons_s is None else reasons_s, "probe": seconds}
        self.asked: dict[str, list[Asked]] = {"rank": [], "explain": [], "probe": []}
        self.heard = {task: asyncio.Event() for task in self.asked}
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SlowEngine]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        sizes = [line.split(": ")[1] for line in head.lower().split("\r\n") if line.startswith("content-length: ")]
        body = json.loads(await reader.readexactly(int(sizes[0]))) if sizes else {}
        gone = asyncio.create_task(reader.read())  # ends when the other side does
        if "/chat/completions" in head:
            grammar = body.get("structured_outputs", {}).get("grammar")
            call = Call(body["messages"], body["max_tokens"], grammar=grammar)
            task, asked = _task(call), Asked(_now())
            self.asked[task].append(asked)
            self.heard[task].set()
            await self._answer(asked, self.seconds[task] / 2, backwards(call).split(" "), writer, gone)
            asked.over.set()
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        gone.cancel()
        writer.close()

    async def _answer(
        self, asked: Asked, half: float, words: list[str], writer: asyncio.StreamWriter, gone: asyncio.Task[bytes]
    ) -> None:
        await asyncio.wait([gone], timeout=half)
        if not gone.done():
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for n, word in enumerate(words):
            await asyncio.wait([gone], timeout=max(0, asked.at + half * (1 + (n + 1) / len(words)) - _now()))
            if gone.done():
                asked.hung_up_at = _now()
                return
            writer.write(_chunk({"choices": [{"index": 0, "delta": {"content": word if n == 0 else f" {word}"}}]}))
        usage = {"prompt_tokens": 400, "completion_tokens": len(words), "total_tokens": 400 + len(words)}
        writer.write(_chunk({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")


def _task(call: Call) -> str:
    if "why:" in (call.grammar or ""):
        return "explain"
    return "rank" if "Candidates:" in call.messages[-1]["content"] else "probe"


def _now() -> float:
    return asyncio.get_running_loop().time()


def _chunk(fields: dict[str, Any]) -> bytes:
    told = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", **fields}
    return b"data: " + json.dumps(told).encode() + b"\n\n"
