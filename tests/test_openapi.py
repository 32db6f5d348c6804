"""The whole OpenAPI under schemathesis: nothing it thinks of gets a 500, or an answer that the schema doesn't promise.

`make test` gives each route a few examples; with HOSTILE=all, as in `make verify`, many.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
import uvicorn
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from service.api import create_app
from service.config import HOUSE, Settings
from service.llm.scripted import ScriptedLLM
from service.pipeline import Recommender, build
from tests.conftest import FILMS, MODELS, backwards

EXAMPLES = 60 if os.environ.get("HOSTILE") == "all" else 5


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service on a thread of its own: schemathesis waits for each answer."""
    settings = Settings.load(HOUSE / "configs" / "test.yaml")
    settings = settings.changed({"data": tmp_path_factory.mktemp("data"), "embed": {"path": MODELS / "minilm"}})

    async def ready(_: Settings) -> Recommender:
        recommender = await build(settings, llms={"tiny": ScriptedLLM(backwards, alias="tiny")})
        await recommender.ingest_items(FILMS)
        await recommender.embed_pending()
        return recommender

    server = uvicorn.Server(uvicorn.Config(create_app(settings, ready), port=0, log_level="error", ws="none"))
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


schema = schemathesis.openapi.from_dict(create_app(Settings.load(HOUSE / "configs" / "test.yaml")).openapi())


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
        checks=[not_a_server_error, response_schema_conformance, content_type_conformance, status_code_conformance],
    )
