"""What careless and hostile people send, to every route: a refusal in the envelope or a valid
answer, never a crash.

`make test` sends a part of it to each route, another part to the next; with HOSTILE=all, as in
`make verify`, all.
"""

import json
import os
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from service.api import create_app
from service.api.needs import JsonRoute
from service.config import HOUSE, Settings
from tests.conftest import Make
from tests.test_api import served

Serve = Callable[[Any], Any]
APP = create_app(Settings.load(HOUSE / "configs" / "test.yaml"))
API = APP.openapi()
ROUTES = [
    (method, route)
    for route in APP.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]
WRITING = [(method, route.path) for method, route in ROUTES if method not in {"GET", "HEAD"}]
TAKING = [
    (method, path)
    for method, path in WRITING
    if "requestBody" in API["paths"][path][method.lower()]
]
"""Routes that take a body."""
DIFFERENT = list(
    {
        route.endpoint: (method, route.path)
        for method, route in ROUTES
        if (method, route.path) in TAKING
    }.values()
)
"""Of those that are answered by the same function, one."""
PART = 1 if os.environ.get("HOSTILE") == "all" else 30
"""One in so many bodies is sent."""
IDS = [
    "a%2Fb",
    "%2E%2E",
    "%00",
    "%0A",
    "%ED%A0%80",
    "%FF",
    "%E2%80%A8",
    "%25",
    "'%20OR%201=1--",
    "{x}",
    "a" * 300,
    "a" * 30_000,
]
JSON = "application/json"
BODIES = {
    "nothing": b"",
    "null": b"null",
    "a number": b"1",
    "a text": b'"text"',
    "an empty object": b"{}",
    "an empty array": b"[]",
    "an array": b'[1, null, "x", [], {}]',
    "a beginning": b'{"user_id": ',
    "too much": b'{"user_id": "u"} x',
    "a trailing comma": b'{"user_id": "u",}',
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "as deep as JSON may be": b'{"filters":' * 190 + b"1" + b"}" * 190,
    "a number beyond floats": b'{"value": 1e400, "user_id": "u", "type": "view"}',
    "a number of many digits": b'{"top_n": ' + b"9" * 10_000 + b"}",
    "one key twice": b'{"user_id": "u", "user_id": "v", "id": "a", "id": "b", "type": "view"}',
    "an id with a slash": b'{"user_id": "a/b", "id": "a/b", "item_id": "a/b", "type": "view"}',
    "an id of dots": b'{"user_id": "..", "id": "..", "item_id": "..", "type": "view"}',
    "invalid UTF-8": b'{"user_id": "\xff\xfe"}',
    "UTF-16": '{"user_id": "u"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"user_id": "u"}',
    "zeros": b"\0" * 1_000,
    "a long text": b'{"instruction": "' + b"a" * 11_000_000 + b'"}',
    "a long key": b'{"' + b"a" * 11_000_000 + b'": 1}',
    "many elements": b"[" + b",".join([b"{}"] * 20_000) + b"]",
    "many lines": b"x\n" * 20_000,
    "more than is taken": b" " * (17 * 2**20),
}
NO_JSON = {
    "NaN": b'{"surprise": NaN}',
    "infinity": b'{"surprise": -Infinity}',
    "half a character": b'{"surprise": "\\ud800"}',
    "half a character as key": b'{"\\udfff": 1}',
}
KINDS = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "application/xml",
    ";;;",
    "",
    None,
]
VALUES = [
    *(
        "null",
        "true",
        "0",
        "-1",
        "1.5",
        "1e400",
        "1" + "0" * 30,
        "9" * 4_000,
        "NaN",
        "[]",
        "{}",
        "[null]",
        "[[]]",
        '{"": {}}',
    ),
    *(
        '""',
        '" "',
        '"\\u0000"',
        '"\\ud800"',
        '"a/b"',
        '"{{ 7*7 }}"',
        '"../../etc/passwd"',
        '"2026-01-01"',
        '"\\u202e"',
    ),
    *(
        '{"$ref": "#"}',
        '["x", "x"]',
        '"' + "a" * 20_000 + '"',
        "[" * 100 + "]" * 100,
        "[" + "1," * 20_000 + "1]",
    ),
]
HERE = "here stands what is replaced"


@pytest.fixture
async def client(make: Make, serve: Serve, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with await served(make, serve, settings) as found:
        found.timeout = httpx.Timeout(60)
        for feed, known in (("users", {"user_id": "en"}), ("items", {"id": "en"})):
            assert (await found.post(f"/v1/{feed}", json=known)).status_code == 200
        yield found


def no_number(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def wrong(answer: httpx.Response) -> str:
    """What is wrong with an answer; empty if nothing."""
    if answer.status_code >= 500 or "x-request-id" not in answer.headers:
        return f"{answer.status_code} {answer.text[:300]}"
    if answer.status_code < 300:
        if answer.content and answer.headers["content-type"] == JSON:
            json.loads(answer.text, parse_constant=no_number)
        return answer.text[-300:] if "event: error" in answer.text else ""
    if answer.is_redirect:
        return ""
    told = answer.json()
    kept = (
        set(told) == {"error", "message", "detail", "id"}
        and told["id"] == answer.headers["x-request-id"]
    )
    return "" if kept and len(answer.content) < 10_000 else answer.text[:300]


async def faults(
    client: httpx.AsyncClient, method: str, path: str, bodies: Iterator[tuple[str, str | bytes]]
) -> list[str]:
    found = []
    for name, body in islice(bodies, zlib.crc32(path.encode()) % PART, None, PART):
        answer = await client.request(
            method, filled(path), content=body, headers={"content-type": JSON}
        )
        if reason := wrong(answer):
            found.append(f"{name}: {reason}")
    return found


def filled(path: str, with_: str = "en") -> str:
    return "/".join(
        with_ + step.partition("}")[2] if step.startswith("{") else step for step in path.split("/")
    )


@pytest.mark.parametrize(("method", "path"), WRITING)
async def test_no_body_breaks_a_route(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert await faults(client, method, path, iter((BODIES | NO_JSON).items())) == []


@pytest.mark.parametrize(("method", "path"), DIFFERENT)
async def test_no_value_breaks_a_field(client: httpx.AsyncClient, method: str, path: str) -> None:
    body = API["paths"][path][method.lower()]["requestBody"]["content"][JSON]["schema"]
    assert (await client.request(method, filled(path), json=sample(body))).status_code != 422
    assert await faults(client, method, path, mutated(body)) == []


@pytest.mark.parametrize(
    ("method", "path"), [(method, route.path) for method, route in ROUTES if "{" in route.path]
)
async def test_no_id_breaks_a_path(client: httpx.AsyncClient, method: str, path: str) -> None:
    ids = [
        one for one in IDS if len(filled(path, one)) < 60_000
    ]  # beyond that the client itself refuses
    answers = {one: await client.request(method, filled(path, one)) for one in ids}
    assert {one: found for one, answer in answers.items() if (found := wrong(answer))} == {}


@pytest.mark.parametrize(("method", "path"), TAKING)
async def test_what_is_no_json_and_what_does_not_say_so_is_refused(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    for name, body in NO_JSON.items():
        answer = await client.request(
            method, filled(path), content=body, headers={"content-type": JSON}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json"), name
    for kind in KINDS:
        headers = {} if kind is None else {"content-type": kind}
        answer = await client.request(method, filled(path), content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            415,
            "unsupported_media_type",
        ), kind
        assert JSON in answer.json()["message"]
    for kind in (JSON, "Application/JSON; charset=utf-8", "application/vnd.api+json"):
        answer = await client.request(
            method, filled(path), content=b"{}", headers={"content-type": kind}
        )
        assert answer.status_code != 415, kind


@pytest.mark.parametrize(("method", "path"), TAKING)
async def test_a_body_that_does_not_say_its_length_is_cut_where_others_are(
    make: Make, serve: Serve, settings: Settings, method: str, path: str
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 100

    async with await served(
        make, serve, settings.changed({"limits": {"body_bytes": 2_000}}), films=[]
    ) as client:
        answer = await client.request(
            method, filled(path), content=chunks(), headers={"content-type": JSON}
        )
    assert (answer.status_code, answer.json()["error"]["code"], wrong(answer)) == (
        413,
        "body_too_large",
        "",
    )


def test_every_route_with_a_body_reads_it_strictly() -> None:
    assert [
        route.path for _, route in ROUTES if route.body_field and not isinstance(route, JsonRoute)
    ] == []


# ── bodies from a schema ──────────────────────────────────────────────────────────────────────────


def mutated(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(where and what, body): for every place in a valid body every hostile value, beside what is
    required."""
    schema = plain(schema)
    for name, field in schema["properties"].items():
        whole = {**sample(schema), name: sample(field)}
        for place in [(name, *rest) for rest in places(whole[name])]:
            for value in VALUES:
                yield (
                    f"{place} {value[:40]}",
                    json.dumps(replaced(whole, place)).replace(json.dumps(HERE), value),
                )


def plain(schema: dict[str, Any] | bool) -> dict[str, Any]:
    """Behind references, and the first of several choices that is not null."""
    if isinstance(schema, bool):  # anything, or nothing
        return {}
    if "$ref" in schema:
        found: dict[str, Any] = API["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return plain(found)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return plain(next(one for one in schema[choice] if one.get("type") != "null"))
    return schema


def sample(schema: dict[str, Any]) -> Any:
    """Something valid, as small as can be; 'en' is an id, a label and a locale, 'year' a key that
    films have."""
    if isinstance(schema, dict) and "examples" in schema:
        return schema["examples"][0]
    schema = plain(schema)
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    match schema.get("type"):
        case "object" if "properties" in schema:
            needed = {*schema.get("required", []), "user_id"} & schema["properties"].keys()
            return {name: sample(schema["properties"][name]) for name in sorted(needed)}
        case "object":
            return {"year": sample(schema.get("additionalProperties") or {})}
        case "array":
            return [sample(schema.get("items", {}))]
        case "string":
            return "2026-01-01T00:00:00Z" if schema.get("format") == "date-time" else "en"
        case "boolean":
            return True
    return 2


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """The value itself and all that is in it."""
    yield ()
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in inner:
        yield from ((key, *rest) for rest in places(part))


def replaced(value: Any, place: tuple[str | int, ...]) -> Any:
    if not place:
        return HERE
    copy = value.copy()
    copy[place[0]] = replaced(value[place[0]], place[1:])
    return copy
