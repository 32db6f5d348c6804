"""Other models by the same file while the service runs."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.api import create_app
from service.build import Service, build
from service.config import HOUSE, RankerHistory, RankerRecord, Settings
from service.embed import MultilingualEmbedder
from service.schema import Ranking
from tests.conftest import FILMS
from tests.slow_engine import SlowEngine
from tests.test_keys import Serve

ASKED = {"user_id": "u", "candidates": [str(film["id"]) for film in FILMS], "deadline_ms": 60_000}


@dataclass
class Running:
    """A service by `file`, with a local engine and one that stands for a hosted model."""

    client: httpx.AsyncClient
    file: Path
    local: SlowEngine
    hosted: SlowEngine

    def write(self, **parts: Any) -> None:
        self.file.write_text(
            yaml.safe_dump({**yaml.safe_load(self.file.read_text()), **parts}, sort_keys=False)
        )

    async def reload(self) -> httpx.Response:
        return await self.client.post("/v1/admin/reload")

    async def ask(self) -> Ranking:
        answer = await self.client.post("/v1/recommendations", json=ASKED, timeout=90)
        assert answer.status_code == 200, answer.text
        ranking = Ranking.model_validate(answer.json())
        assert sorted(item.item_id for item in ranking.items) == sorted(ASKED["candidates"])  # type: ignore[call-overload]
        return ranking


@asynccontextmanager
async def running(folder: Path, serve: Serve) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        local, hosted = [await stack.enter_async_context(SlowEngine(0).running()) for _ in range(2)]
        told: dict[str, Any] = yaml.safe_load((HOUSE / "configs" / "test.yaml").read_text())
        tiny = {"backend": "vllm", "model": "tiny", "base_url": local.url, "weight": 0.9}
        told["models"] = {"tiny": tiny, "far": {**tiny, "base_url": hosted.url, "hosted": True}}
        told |= {"data": str(folder / "data")}
        (file := folder / "whyrank.yaml").write_text(yaml.safe_dump(told, sort_keys=False))

        async def ready(settings: Settings) -> Service:
            service = await build(settings)
            await service.ingest.items(FILMS)
            await service.ingest.embed_pending()
            await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
            return service

        url = await serve(create_app(Settings.load(file), ready))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
        yield Running(client, file, local, hosted)


async def test_one_line_moves_ranking_to_another_model_and_back(
    tmp_path: Path, serve: Serve
) -> None:
    async with running(tmp_path, serve) as service:
        near = await service.ask()
        service.write(roles={"rank": "far", "explain": "tiny"})
        moved = (await service.reload()).json()
        assert moved == {
            "changed": ["roles.rank"],
            "models": ["whyrank", "whyrank-fast", "whyrank-prior", "tiny", "far"],
        }
        far = await service.ask()
        service.write(roles={"rank": "tiny", "explain": "tiny"})
        await service.reload()
        back = await service.ask()
        assert [one.model for one in (near, far, back)] == ["tiny", "far", "tiny"]
        assert [one.degraded for one in (near, far, back)] == [None] * 3
        assert {shape(one.model_dump(mode="json")) for one in (near, far, back)} == {
            shape(near.model_dump(mode="json"))
        }


async def test_a_ranker_serves_as_soon_as_it_is_promoted_and_no_longer_than_that(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one turns the prior around."""
    monkeypatch.setattr("service.api.operations.RANKERS_EVERY_S", 0.02)
    turning = RankerRecord(
        history="few",
        kind="linear",
        embedder=MultilingualEmbedder().name,
        features=("prior",),
        weights=(-1.0,),
        at="2026-01-01T00:00:00",
        promoted=True,
        why="a test",
    )
    async with running(tmp_path, serve) as service:

        async def order() -> list[str]:
            asked = {**ASKED, "strategy": "prior", "explain": "none"}
            answer = await service.client.post("/v1/recommendations", json=asked)
            return [item["item_id"] for item in answer.json()["items"]]

        async def until(wanted: str) -> None:
            async with asyncio.timeout(20):
                while (await order())[0] != wanted:
                    pass

        liked = {"user_id": "u", "item_id": FILMS[0]["id"], "type": "like"}
        await service.client.post("/v1/events", json=liked)
        plain = await order()
        settings = Settings.load(service.file)
        history = RankerHistory(settings.rankers_folder / settings.service.domain)
        history.add(turning)
        await until(plain[-1])
        history.roll_back()
        await until(plain[0])


def shape(value: Any) -> Any:
    """The keys at all depths."""
    if isinstance(value, dict):
        return tuple((key, shape(one)) for key, one in value.items())
    if isinstance(value, list):
        return ("list", *sorted({repr(shape(one)) for one in value}))
    return None


async def test_no_request_fails_while_models_change_under_load(
    tmp_path: Path, serve: Serve
) -> None:
    async with running(tmp_path, serve) as service:
        over, answers = asyncio.Event(), list[Ranking]()

        async def keep_asking() -> None:
            while not over.is_set():
                answers.append(await service.ask())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(keep_asking())
            for n in range(6):
                before = len(answers)
                service.write(roles={"rank": ("far", "tiny")[n % 2], "explain": "tiny"})
                assert (await service.reload()).status_code == 200
                async with asyncio.timeout(60):
                    while len(answers) < before + 8:
                        await service.client.get("/healthz")
            over.set()
        assert {one.model for one in answers} == {"tiny", "far"}
        assert {one.degraded for one in answers} == {None}


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({"roles": {"rank": "nobody", "explain": "tiny"}}, "roles.rank"),
        ({"rank": {"window": -1}}, "rank.window"),
        ({"service": {"port": 1, "domain": "movies"}}, "service.port"),
        ({"data": "/elsewhere"}, "data"),
        ({"models": 5}, "models"),
        (
            {
                "models": {
                    "tiny": {
                        "backend": "vllm",
                        "model": "m",
                        "base_url": "http://127.0.0.1:80o1/v1",
                    }
                }
            },
            "models.tiny",
        ),
    ],
)
async def test_what_cannot_be_used_changes_nothing(
    tmp_path: Path, serve: Serve, parts: dict[str, Any], names: str
) -> None:
    async with running(tmp_path, serve) as service:
        service.write(**parts)
        answer = await service.reload()
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "bad_config"
        assert names in answer.json()["error"]["message"]
        for content in (b"{ not yaml", b"\xff\xfe", b""):
            service.file.write_bytes(content)
            assert (await service.reload()).status_code == 422
        assert (await service.ask()).model == "tiny"


async def test_limits_are_others_after_a_hangup_signal(tmp_path: Path, serve: Serve) -> None:
    async with running(tmp_path, serve) as service:
        assert (
            await service.client.post("/v1/recommendations", json={"top_n": 9})
        ).status_code == 200
        service.write(limits={"top_n": 5})
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(20):
            while (
                await service.client.post("/v1/recommendations", json={"top_n": 9})
            ).status_code == 200:
                pass


async def test_a_service_that_was_not_made_from_a_file_says_so(
    make: Any, serve: Serve, settings: Settings
) -> None:
    service = await make()
    changed = service.settings.changed({"limits": {"top_n": 5}})

    async def ready(_: Settings) -> Service:
        found: Service = service
        return found

    async with httpx.AsyncClient(base_url=await serve(create_app(changed, ready))) as client:
        answer = await client.post("/v1/admin/reload")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_config")
