"""The whole OpenAPI under schemathesis: nothing it thinks of gets a 500, or an answer that the
schema doesn't promise. And what it shows: everything has a description, every body an example that
is taken, every route the key that it needs.

`make test` gives each route a few examples; with HOSTILE=all, as in `make verify`, many.
"""

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
import uvicorn
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.api import create_app
from service.api.edge import OPEN, SCOPES
from service.build import Service, build
from service.config import HOUSE, Settings
from tests.conftest import CHROMIUM, FILMS, backwards, needs_chromium
from tests.scripted import ScriptedLLM

EXAMPLES = 60 if os.environ.get("HOSTILE") == "all" else 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service on a thread of its own: schemathesis waits for each answer."""
    settings = Settings.load(HOUSE / "configs" / "test.yaml")
    settings = settings.changed({"data": tmp_path_factory.mktemp("data")})

    async def ready(_: Settings) -> Service:
        service = await build(settings, llms={"tiny": ScriptedLLM(backwards, alias="tiny")})
        await service.ingest.items(FILMS)
        await service.ingest.embed_pending()
        return service

    server = uvicorn.Server(
        uvicorn.Config(create_app(settings, ready), port=0, log_level="error", ws="none")
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    started = threading.Event()
    while not server.started:
        started.wait(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@schemathesis.serializer("application/x-ndjson")
def lines(_: Any, value: Any) -> bytes:
    return json.dumps(value).encode()


OPENAPI: dict[str, Any] = create_app(Settings.load(HOUSE / "configs" / "test.yaml")).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in OPENAPI["paths"].items()
    for method, operation in methods.items()
}
schema = schemathesis.openapi.from_dict(OPENAPI)


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,
    suppress_health_check=list(hypothesis.HealthCheck),
    database=None,
)
def test_nothing_gets_a_500_or_an_answer_outside_the_schema(case: Any, base: str) -> None:
    case.call_and_validate(
        base_url=base,
        checks=[
            not_a_server_error,
            response_schema_conformance,
            content_type_conformance,
            status_code_conformance,
        ],
    )


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(content type, what is said of it) of all that an operation takes."""
    yield from operation.get("requestBody", {}).get("content", {}).items()


def resolved(shape: dict[str, Any]) -> dict[str, Any]:
    name = shape.get("$ref", "").removeprefix("#/components/schemas/")
    return OPENAPI["components"]["schemas"][name] if name else shape


def examples(media: dict[str, Any]) -> list[Any]:
    own = (
        [media["example"]]
        if "example" in media
        else [one["value"] for one in media.get("examples", {}).values()]
    )
    return own or resolved(media.get("schema", {})).get("examples", [])


def undescribed(shape: dict[str, Any], where: str) -> Iterator[str]:
    for name, field in shape.get("properties", {}).items():
        if not field.get("description"):
            yield f"{where}.{name}"
        yield from undescribed(field, f"{where}.{name}")
    inner = [
        shape[key] for key in ("items", "additionalProperties") if isinstance(shape.get(key), dict)
    ]
    for part in [*inner, *shape.get("anyOf", [])]:
        yield from undescribed(part, where)


def test_every_field_parameter_and_operation_has_a_description() -> None:
    fields = [
        miss
        for name, shape in OPENAPI["components"]["schemas"].items()
        for miss in undescribed(shape, name)
    ]
    inline = [
        miss
        for name, operation in OPERATIONS.items()
        for _, media in bodies(operation)
        for miss in undescribed(media.get("schema", {}), name)
    ]
    parameters = [
        f"{name} {one['name']}"
        for name, operation in OPERATIONS.items()
        for one in operation.get("parameters", [])
        if not one.get("description")
    ]
    silent = [
        name
        for name, one in OPERATIONS.items()
        if not (one.get("summary") and one.get("description"))
    ]
    assert (fields, inline, parameters, silent) == ([], [], [], [])


def test_every_body_has_an_example_and_it_is_taken(base: str) -> None:
    with httpx.Client(base_url=base, timeout=60) as client:
        for name, operation in OPERATIONS.items():
            method, path = name.replace("{user_id}", "127").replace("{item_id}", "181").split()
            for kind, media in bodies(operation):
                assert examples(media), (name, kind)
                for body in examples(media):
                    content = body if isinstance(body, str) else json.dumps(body)
                    answer = client.request(
                        method, path, content=content, headers={"content-type": kind}
                    )
                    assert answer.status_code == 200, (name, kind, answer.text)
                    assert 'ejected":[{' not in answer.text, (name, kind, answer.text)


def violations(shape: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """(a value that is too long or too short, what is to be said of it) for every length that a
    schema limits."""
    shape = resolved(shape)
    if most := shape.get("maxLength"):
        yield "x" * (most + 1), f"at most {most:,} characters"
    if most := shape.get("maxItems"):
        yield ["x"] * (most + 1), f"at most {most:,} items"
    if most := shape.get("maxProperties"):
        yield {f"k{n}": 1 for n in range(most + 1)}, f"at most {most:,} attributes"
    if least := shape.get("minItems"):
        yield [], f"at least {least} item"
    for inner in shape.get("anyOf", []):
        yield from violations(inner)
    wrapped: dict[str, Callable[[Any], Any]] = {
        "items": lambda value: [value],
        "additionalProperties": lambda value: {"key": value},
        "propertyNames": lambda value: {value: 1},
    }
    for key, whole in wrapped.items():
        if isinstance(shape.get(key), dict):
            yield from ((whole(value), told) for value, told in violations(shape[key]))


FEEDS = ("/v1/items", "/v1/users", "/v1/events")
LIMITED = [
    (path, name, value, told)
    for path in (*FEEDS, "/v1/recommendations", "/v1/chat/completions", "/v1/rerank")
    for _, media in list(bodies(OPERATIONS[f"POST {path}"]))[:1]
    for shape in [resolved(media["schema"].get("anyOf", [media["schema"]])[0])]
    for name, field in shape["properties"].items()
    for value, told in violations(field)
]


def test_limits_speak_in_the_unit_of_what_they_limit(base: str) -> None:
    found = {}
    with httpx.Client(base_url=base, timeout=60) as client:
        for path, name, value, told in LIMITED:
            media = next(media for _, media in bodies(OPERATIONS[f"POST {path}"]))
            answer = client.post(path, json=examples(media)[0] | {name: value})
            if told not in answer.json()["message"] or "items after validation" in answer.text:
                found[path, name, told] = answer.text
    assert found == {}
    assert len(LIMITED) > 50


def test_every_operation_names_the_key_that_the_gate_asks_for(base: str) -> None:
    schemes = OPENAPI["components"]["securitySchemes"].values()
    assert [(one["type"], one.get("scheme"), one.get("name")) for one in schemes] == [
        ("http", "bearer", None),
        ("apiKey", None, "X-API-Key"),
    ]
    table = {name.replace(":path}", "}"): scope for name, scope in SCOPES.items()}
    for name, operation in OPERATIONS.items():
        scope = table.get(name)
        assert operation.get("security", []) == (
            [] if name in OPEN else [{"bearer": [scope]}, {"header": [scope]}]
        ), name
        assert (f"good for `{scope}`" in operation["description"]) == (name not in OPEN), name
    assert [httpx.get(f"{base}/openapi.json").json() for _ in range(2)] == [OPENAPI, OPENAPI]


def test_refusals_are_json_whatever_a_route_answers() -> None:
    for name, operation in OPERATIONS.items():
        assert [[*operation["responses"][status]["content"]] for status in ("4XX", "5XX")] == [
            ["application/json"]
        ] * 2, name


# ── the page that shows it ────────────────────────────────────────────────────────────────────────


def test_the_page_of_docs_and_all_that_it_needs_comes_from_this_service(base: str) -> None:
    with httpx.Client(base_url=base) as client:
        page = client.get("/docs")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        needed = re.findall(r"""(?:src|href)="(.+?)"|url: '(.+?)'""", page.text)
        addresses = {first or second for first, second in needed} - {"data:,"}
        assert addresses == {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "openapi.json"}
        answers = [client.get(f"/{address}") for address in sorted(addresses)]
        kinds = [
            (one.status_code, one.headers["content-type"].partition(";")[0]) for one in answers
        ]
        assert kinds == [(200, "text/javascript"), (200, "text/css"), (200, "application/json")]
        assert re.findall(r"""@import|url\(["']?(?!["']?data:)""", answers[1].text) == []
        assert client.get("/docs/redoc.standalone.js").json()["error"]["code"] == "route_not_found"


@needs_chromium
def test_a_browser_shows_every_operation_and_asks_no_other_host(base: str) -> None:
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{base}/docs")
        page.wait_for_selector(".opblock")
        shown = page.locator(".opblock").count()
        browser.close()
    assert shown == len(OPERATIONS)
    assert said == []
    assert [url for url in asked if not url.startswith((f"{base}/", "data:"))] == []
