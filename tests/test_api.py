import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from service.api import create_app
from service.config import HOUSE, Settings
from service.llm.scripted import ScriptedLLM
from service.pipeline import Recommender
from tests.conftest import FILMS, MODELS, Make, backwards

Serve = Callable[[Any], Any]
KEY = "a-key-of-enough-length"


async def served(make: Make, serve: Serve, settings: Settings, **more: Any) -> httpx.AsyncClient:
    recommender: Recommender = await make(changed=settings, **more)

    async def ready(_: Settings) -> Recommender:
        return recommender

    return httpx.AsyncClient(base_url=await serve(create_app(settings, ready)))


async def test_an_event_sent_over_http_changes_the_next_answer(make: Make, serve: Serve, settings: Settings) -> None:
    async with await served(make, serve, settings) as client:
        event = {"user_id": "u", "item_id": "alien", "type": "play"}
        assert (await client.post("/v1/events", json=event)).json() == {"accepted": 1, "duplicates": 0, "rejected": []}
        answer = await client.post("/v1/recommendations", json={"user_id": "u", "top_n": 3})
        ranking = answer.json()
        assert answer.status_code == 200
        assert answer.headers["x-request-id"].startswith("req-")
        assert "alien" not in [item["item_id"] for item in ranking["items"]]
        assert ranking["state_version"] == 1


async def test_json_lines_and_arrays_are_taken_and_a_bad_line_costs_itself(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        lines = '{"id": "one", "title": "One"}\nnot json\n{"id": "a/b"}\n'
        report = (await client.post("/v1/items", content=lines)).json()
        assert report["accepted"] == 1
        assert [one["index"] for one in report["rejected"]] == [1, 2]
        assert (await client.post("/v1/items", json=[{"id": "a/b"}])).status_code == 422
        assert (await client.get("/v1/items/one")).json()["title"] == "One"
        assert (await client.delete("/v1/items/one")).status_code == 204
        assert (await client.get("/v1/items/one")).json()["error"]["code"] == "item_not_found"


async def test_users_are_declared_read_and_patched(make: Make, serve: Serve, settings: Settings) -> None:
    async with await served(make, serve, settings) as client:
        assert (await client.post("/v1/users", json={"user_id": "u", "attributes": {"age": 3}})).status_code == 200
        patched = await client.patch("/v1/users/u", json={"locale": "de"})
        assert patched.json() == (await client.get("/v1/users/u")).json()
        assert patched.json()["attributes"] == {"age": 3}
        assert (await client.patch("/v1/users/ghost", json={})).status_code == 404


async def test_every_route_but_health_needs_the_key(make: Make, serve: Serve, settings: Settings) -> None:
    locked = settings.model_copy(update={"api_key": SecretStr(KEY)})
    async with await served(make, serve, locked) as client:
        for path in ("/v1/recommendations", "/v1/events", "/metrics", "/docs", "/openapi.json", "/v1/items/x", "/nowhere"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "unauthorized"
            assert KEY not in answer.text
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
            assert (await client.get("/metrics", headers=headers)).status_code == 200
        assert (await client.get("/metrics", headers={"authorization": "Bearer wrong"})).status_code == 401
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


HOSTILE: list[tuple[str, bytes]] = [
    ("/v1/recommendations", b"{"),
    ("/v1/recommendations", b"[" * 100_000),
    ("/v1/recommendations", b'{"top_n": NaN}'),
    ("/v1/recommendations", b'{"user_id": "\\ud800"}'),
    ("/v1/recommendations", b'{"filters": {"\\ud800": {"any": ["x"]}}}'),
    ("/v1/recommendations", b'{"instruction": 3, "surprise": true}'),
    ("/v1/recommendations", b'{"exclude": ["a/b"]}'),
    ("/v1/recommendations", b"\xff\xfe"),
    ("/v1/events", b""),
    ("/v1/events", b"[" * 100_000),
    ("/v1/events", b'{"user_id": "u", "type": "click", "value": NaN}'),
    ("/v1/events", b'{"user_id": "u", "type": "CLICK"}'),
    ("/v1/items", b'{"id": "x", "attributes": {"year": "old"}}'),
    ("/v1/items", b'{"id": "x", "attributes": {"year": 1e400}}'),
    ("/v1/users", b"null"),
]


@pytest.mark.parametrize(("path", "body"), HOSTILE)
async def test_a_hostile_body_gets_the_envelope(make: Make, serve: Serve, settings: Settings, path: str, body: bytes) -> None:
    async with await served(make, serve, settings) as client:
        answer = await client.post(path, content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, answer.text
        told = answer.json()
        assert set(told) == {"error", "message", "detail", "id"}
        assert told["id"] == answer.headers["x-request-id"]


async def test_unknown_routes_methods_and_large_bodies_share_the_envelope(make: Make, serve: Serve, settings: Settings) -> None:
    small = settings.model_copy(update={"limits": settings.limits.model_copy(update={"body_bytes": 2_000})})
    async with await served(make, serve, small) as client:
        assert (await client.get("/nowhere")).json()["error"]["code"] == "route_not_found"
        assert (await client.get("/v1/events")).json()["error"]["code"] == "method_not_allowed"
        assert (await client.post("/v1/events", content=b"x" * 3_000)).json()["error"]["code"] == "body_too_large"

        async def chunks() -> Any:
            for _ in range(30):
                yield b"x" * 100

        assert (await client.post("/v1/events", content=chunks())).status_code == 413


async def test_metrics_and_readiness_tell_what_happened(make: Make, serve: Serve, settings: Settings) -> None:
    async with await served(make, serve, settings) as client:
        await client.post("/v1/recommendations", json={"user_id": "u"})
        metrics = (await client.get("/metrics")).text
        assert 'whyrank_requests_total{route="/v1/recommendations",status="200"} 1.0' in metrics
        assert 'whyrank_ranking_seconds_count{model="tiny",strategy="listwise"} 1.0' in metrics
        ready = (await client.get("/readyz")).json()
        assert ready["parts"]["catalog"]["items"] == len(FILMS)
        assert ready["status"] == "ready"
        assert ready["parts"]["model:rank"]["capabilities"]["grammar"]


async def test_readiness_finds_out_a_model_that_ignores_grammars(make: Make, serve: Serve, settings: Settings) -> None:
    deaf = ScriptedLLM(backwards, alias="tiny", obeys=False)
    async with await served(make, serve, settings, llm=deaf) as client:
        ready = (await client.get("/readyz")).json()
        assert ready["status"] == "degraded"
        assert "no_capability" in ready["parts"]["model:rank"]["why"]


async def started(settings: Settings, port: int, **more: str) -> tuple[subprocess.Popen[bytes], httpx.AsyncClient]:
    """A real `whyrank serve` in a process of its own."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "WHYRANK_DATA": str(settings.data),
        "WHYRANK_EMBED__PATH": str(MODELS / "minilm"),
        "WHYRANK_SERVICE__PORT": str(port),
        **more,
    }
    command = [sys.executable, "-m", "service.cli", "--config", str(HOUSE / "configs" / "test.yaml"), "serve"]
    process = await asyncio.to_thread(subprocess.Popen, command, env=environment, cwd=HOUSE)
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)
    for _ in range(600):
        assert process.poll() is None
        try:
            await client.get("/healthz")
            return process, client
        except httpx.TransportError:
            await asyncio.sleep(0.1)
    raise AssertionError("the service did not start")


async def test_a_killed_service_loses_nothing_it_answered(settings: Settings) -> None:
    process, client = await started(settings, 18437)
    for n in range(20):
        event = {"user_id": "u", "item_id": f"i{n}", "type": "like", "event_id": str(n)}
        assert (await client.post("/v1/events", json=event)).status_code == 200
    assert (await client.post("/v1/items", json=FILMS)).json()["accepted"] == len(FILMS)
    process.kill()
    process.wait()
    await client.aclose()
    process, client = await started(settings, 18437)
    again = json.dumps([{"user_id": "u", "item_id": f"i{n}", "type": "like", "event_id": str(n)} for n in range(20)])
    assert (await client.post("/v1/events", content=again)).json()["duplicates"] == 20
    assert (await client.get("/v1/items/heat")).status_code == 200
    await client.aclose()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM)


async def test_a_stopped_service_first_ends_what_is_in_flight(settings: Settings) -> None:
    """The model's server answers only after the stop: the request that waits for it still gets its ranking."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await go.wait()
        letters = " ".join("HGFEDCBA")
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
        chunk["choices"] = [{"index": 0, "delta": {"content": letters}, "finish_reason": "stop"}]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        writer.write(head + b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n")
        await writer.drain()
        writer.close()

    model = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{model.sockets[0].getsockname()[1]}/v1"
    process, client = await started(settings, 18438, WHYRANK_MODELS__TINY__BASE_URL=url)
    await client.post("/v1/items", json=FILMS)
    request = asyncio.create_task(client.post("/v1/recommendations", json={"user_id": "u", "explain": "none"}))
    await asyncio.wait_for(asked.wait(), 30)
    process.send_signal(signal.SIGTERM)
    go.set()
    ranking = (await request).json()
    assert (ranking["strategy"], ranking["degraded"], len(ranking["items"])) == ("listwise", None, len(FILMS))
    await client.aclose()
    assert await asyncio.to_thread(process.wait, 20) in (0, -signal.SIGTERM)
    model.close()
