"""Real parts on a temporary folder: LanceDB, SQLite, the embedder. Only the language model is
scripted."""

import asyncio
import os
import re
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import uvicorn
from hypothesis import settings as hypothesis_settings

from service.build import Service, build
from service.config import HOUSE, Settings
from service.errors import ModelError
from service.llm import Asked, Call, ModelAdapter, OutgoingAsked, OutgoingCall, ScorerAdapter
from service.models import LatencyEstimator, MeteredModel, MeteredScorer
from service.models.meters import Budget, CircuitBreaker, Meters
from service.privacy import Outgoing
from service.telemetry import Telemetry
from tests.scripted import ScriptedLLM

hypothesis_settings.register_profile("untimed", deadline=None)  # the first example loads a library
hypothesis_settings.load_profile("untimed")

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: 'apt-get install chromium' adds it"
)
CERTIFICATES = ssl.create_default_context()
"""Read once: a client would take 28 ms for them."""
MODELS = Path(os.environ.get("WHYRANK_DATA", HOUSE / ".whyrank")) / "models"

FILMS = [
    {"id": "alien", "title": "Alien", "attributes": {"year": 1979, "genre": ["Horror", "Sci-Fi"]}},
    {
        "id": "thing",
        "title": "The Thing",
        "attributes": {"year": 1982, "genre": ["Horror", "Sci-Fi"]},
    },
    {"id": "shining", "title": "The Shining", "attributes": {"year": 1980, "genre": ["Horror"]}},
    {
        "id": "solaris",
        "title": "Solaris",
        "attributes": {"year": 1972, "genre": ["Drama", "Sci-Fi"]},
    },
    {
        "id": "notting",
        "title": "Notting Hill",
        "attributes": {"year": 1999, "genre": ["Comedy", "Romance"]},
    },
    {
        "id": "amelie",
        "title": "Amélie",
        "attributes": {"year": 2001, "genre": ["Comedy", "Romance"]},
    },
    {
        "id": "sunrise",
        "title": "Before Sunrise",
        "attributes": {"year": 1995, "genre": ["Drama", "Romance"]},
    },
    {"id": "heat", "title": "Heat", "attributes": {"year": 1995, "genre": ["Action", "Crime"]}},
]

ALIEN = {
    "text": "A crew in space is hunted.",
    "url": "https://films.example/alien",
    "image_url": "https://films.example/alien.jpg",
    "published_at": "1979-05-25T00:00:00Z",
}
"""What may be known of a film beside its title and attributes."""


def letters_of(call: Call) -> list[str]:
    """The candidates' letters and titles as a model reads them in its prompt."""
    shown = call.messages[-1]["content"].split("Candidates:")[-1]
    return re.findall(r'^([A-Z])\) "', shown, flags=re.MULTILINE)


def for_a_reason(call: Call | OutgoingCall) -> bool:
    """Does it ask for a reason, under a grammar?"""
    return "head0" in (call.grammar or "")


def backwards(call: Call) -> str:
    """A model that ranks in reverse, and says of everything what no check lets pass."""
    if for_a_reason(call):
        return "A [f1] is a film you may like."
    return " ".join(reversed(letters_of(call)))


def truthful(call: Call) -> str:
    """A model that ranks in reverse, and says of everything the first of its facts."""
    if for_a_reason(call):
        facts = re.findall(r"^f1\) (.+?)(?:, | and |$)", call.messages[1]["content"], re.MULTILINE)
        return f"A [f1] is also {facts[-1]}."
    return backwards(call)


Make = Callable[..., Any]


def sentence_transformer(folder: Path) -> Path:
    """Makes a folder with an ONNX sentence transformer of eight numbers a token, random ones."""
    from onnx import TensorProto, helper, numpy_helper, save
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: n for n, word in enumerate(["?", "[PAD]", "alien", "solaris", "a", "film"])}
    tokenizer = Tokenizer(models.WordLevel(words, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    table = np.random.default_rng(0).normal(size=(len(words), 8)).astype(np.float32)
    read = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    hidden = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "tokens", 8])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["hidden"])],
        "mean of words",
        read,
        [hidden],
        [numpy_helper.from_array(table, "table")],
    )
    folder.mkdir()
    opset = [helper.make_opsetid("", 18)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def on_real_tiny(data: Path, port: int) -> Settings:
    """Settings for the real `tiny` on an engine at `port`."""
    found = Settings.load(HOUSE / "configs" / "test.yaml")
    tiny = found.models["tiny"].model_copy(
        update={"path": MODELS / "tiny", "base_url": f"http://127.0.0.1:{port}/v1"}
    )
    return found.model_copy(update={"data": data, "models": {"tiny": tiny}})


def metered(adapter: ModelAdapter) -> MeteredModel:
    """A model as stages ask it, at no price and in the house."""
    return MeteredModel(adapter, _meters(adapter.alias))


def metered_scorer(adapter: ScorerAdapter) -> MeteredScorer:
    """The same of a model that only tells likelihoods."""
    return MeteredScorer(adapter, _meters(adapter.alias))


def _meters(alias: str) -> Meters:
    budget = Budget(alias, cast(Any, None), lambda: datetime.now(UTC))
    breaker = CircuitBreaker(sys.maxsize, 0)
    return Meters(LatencyEstimator(), breaker, budget, Telemetry(), Outgoing)


def sent(context: Sequence[str], text: str) -> OutgoingAsked:
    """A question of likelihood as adapters get it."""
    return OutgoingAsked.of(Asked(tuple(context), text), Outgoing)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings.load(HOUSE / "configs" / "test.yaml")
    return found.model_copy(update={"data": tmp_path / "data"})


@pytest.fixture
async def make(settings: Settings) -> AsyncIterator[Make]:
    """`await make(answer, films=…)`: a service whose model answers so, on a catalogue with
    vectors."""
    made: list[Service] = []

    async def one(
        answer: Callable[[Call], str | ModelError] = backwards,
        *,
        films: list[dict[str, Any]] = FILMS,
        llm: ModelAdapter | None = None,
        changed: Settings = settings,
        weight: float = 0.9,
    ) -> Service:
        model = llm or ScriptedLLM(answer, alias="tiny")
        service = await build(
            changed.changed({"models": {"tiny": {"weight": weight}}}), llms={"tiny": model}
        )
        made.append(service)
        if films:
            report = await service.ingest.items(films)
            assert report.accepted == len(films)
            await service.ingest.embed_pending()
        return service

    yield one
    for service in made:
        await service.close()


class PromptServer(uvicorn.Server):
    """A server that looks at once, not every tenth of a second, whether it is to end and has."""

    def __init__(self, app: Any) -> None:
        super().__init__(uvicorn.Config(app, log_level="error", lifespan="on", ws="none"))
        self.to_end = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.to_end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0.001)  # most are closed then
        await self._wait_tasks_to_complete()
        await self.lifespan.shutdown()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Any], Any]]:
    """`await serve(app)`: a real uvicorn on a free port; returns its base URL."""
    running: list[tuple[PromptServer, asyncio.Task[None]]] = []

    async def one(app: Any) -> str:
        # without the protocol's number asyncio does not switch Nagle's algorithm off
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        server = PromptServer(app)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        running.append((server, task))
        while not server.started:
            assert not task.done(), "the server stopped at start"
            await asyncio.sleep(0.001)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield one
    for server, task in running:
        server.to_end.set()
        await task
