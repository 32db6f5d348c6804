"""`make verify`: the long checks against the real engine. Prints what it found."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from service.api import create_app
from service.config import Settings
from service.engine import server
from service.pipeline import Recommender, build
from service.schema import RecommendRequest
from tests.conftest import FILMS, on_real_tiny
from tests.test_prompts import HOSTILE

COUNT = 200
PORT = 18433
ENGINE = f"http://127.0.0.1:{PORT}"
TYPES = ("like", "rating", "play", "purchase", "click")


async def test_hostile_titles(tmp_path: Path) -> None:
    settings = on_real_tiny(tmp_path, PORT)
    dice = random.Random(0)
    titles = [f"{dice.choice(HOSTILE)} {n} {dice.choice(HOSTILE)}"[:2_000] for n in range(300)]
    items = [
        {"id": f"i{n}", "title": title, "attributes": {"genre": [dice.choice(HOSTILE)[:60]]}} for n, title in enumerate(titles)
    ]
    with server.running(settings):
        recommender = await build(settings)
        await recommender.ingest_items(items)
        await recommender.embed_pending()
        acted_on: list[set[str]] = []
        for user in range(COUNT):
            ids = dice.sample(range(len(items)), dice.randint(0, 12))
            events = [{"user_id": f"u{user}", "item_id": f"i{n}", "type": dice.choice(TYPES), "value": 5} for n in ids]
            await recommender.ingest_events(events)
            acted_on.append({f"i{n}" for n in ids})
        gate = asyncio.Semaphore(8)
        wrong = {"invalid permutation": 0, "invented evidence": 0, "repaired": 0, "degraded": 0}

        async def one(user: int) -> None:
            given = [f"i{n}" for n in dice.sample(range(len(items)), 20)]
            async with gate:
                ranking = await recommender.recommend(
                    RecommendRequest(user_id=f"u{user}", candidates=given, top_n=20, deadline_ms=300_000)
                )
            history = acted_on[user]
            wrong["invalid permutation"] += sorted(item.item_id for item in ranking.items) != sorted(given)
            wrong["invented evidence"] += any(not set(item.evidence) <= history for item in ranking.items)
            repairs = ranking.repairs
            wrong["repaired"] += bool(repairs.missing + repairs.duplicate + repairs.unknown)
            wrong["degraded"] += ranking.degraded is not None
            assert ranking.strategy == "listwise" or ranking.degraded is not None

        await asyncio.gather(*(one(user) for user in range(COUNT)))
        await recommender.close()
    print(f"\n{COUNT} listwise rankings of hostile titles on the real tiny engine: {wrong}")
    assert wrong["invalid permutation"] == wrong["invented evidence"] == 0


async def test_an_engine_that_dies_and_returns(tmp_path: Path, serve: Callable[[Any], Any]) -> None:
    settings = on_real_tiny(tmp_path, PORT)
    recommender = await build(settings)
    await recommender.ingest_items(FILMS)
    await recommender.embed_pending()

    async def ready(_: Settings) -> Recommender:
        return recommender

    async with httpx.AsyncClient(base_url=await serve(create_app(settings, ready)), timeout=60) as client:

        async def ask(n: int) -> tuple[bool, str]:
            start = time.perf_counter()
            answer = await client.post("/v1/recommendations", json={"user_id": f"u{n}", "top_n": 8, "deadline_ms": 20_000})
            whole = answer.status_code == 200 and len({item["item_id"] for item in answer.json()["items"]}) == len(FILMS)
            degraded = answer.json()["degraded"]
            return whole and time.perf_counter() - start < 20, degraded["reason"] if degraded else "none"

        with server.running(settings) as engine:
            before = [await ask(n) for n in range(3)]
            flying = [asyncio.create_task(ask(n)) for n in range(20)]
            while not re.search(r"vllm:num_requests_running\{.*\} [1-9]", (await client.get(f"{ENGINE}/metrics")).text):
                pass  # the question itself yields
            os.killpg(engine.pid, signal.SIGKILL)
            during = [*await asyncio.gather(*flying), *[await ask(n) for n in range(10)]]
        with server.running(settings):
            after = [await ask(n) for n in range(3)]
    for name, answers in (("before", before), ("while it died", during), ("after", after)):
        good = sum(whole for whole, _ in answers)
        print(f"  {name}: {good} of {len(answers)} whole and in time, degraded: {dict(Counter(why for _, why in answers))}")
        assert good == len(answers)
    assert {why for _, why in before} == {why for _, why in after} == {"none"}
    assert "none" not in {why for _, why in during[20:]}
