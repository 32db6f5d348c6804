"""`make bench`: the service's own time around the model call, on MovieLens-100K. Not a test: it prints."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from service.config import HOUSE, Settings
from service.engine import movielens
from service.files import read
from service.llm.scripted import ScriptedLLM
from service.pipeline import build
from service.schema import RecommendRequest
from tests.conftest import MODELS, backwards

RUNS = 200


async def test_overhead(tmp_path: Path) -> None:
    found = Settings.load(HOUSE / "configs" / "cpu.yaml")
    feeds = movielens.pull(found.data, lambda what, done, total: None)
    embed = found.embed.model_copy(update={"path": MODELS / "minilm"})
    settings = found.model_copy(update={"data": tmp_path, "embed": embed})
    recommender = await build(settings, llms={alias: ScriptedLLM(backwards, alias=alias) for alias in settings.models})
    for feed, put in (
        ("items", recommender.ingest_items),
        ("users", recommender.ingest_users),
        ("events", recommender.ingest_events),
    ):
        await put([line.row for line in read(feeds / f"{feed}.jsonl", feed, None)])
    await recommender.embed_pending()
    parts: dict[str, list[float]] = {}
    for n in range(RUNS):
        start = time.perf_counter()
        ranking = await recommender.recommend(RecommendRequest(user_id=str(1 + n), top_n=50))
        parts.setdefault("whole", []).append((time.perf_counter() - start) * 1000)
        for name in ("state_ms", "retrieve_ms", "model_ms", "explain_ms"):
            parts.setdefault(name, []).append(getattr(ranking.timings, name))
        assert len(ranking.items) == 50
    print(f"\nservice time around an instant model, 50 candidates of 1,682 items, {RUNS} users")
    for name, values in parts.items():
        cuts = statistics.quantiles(values, n=20)
        print(f"  {name:12} median {statistics.median(values):6.1f} ms   p95 {cuts[-1]:6.1f} ms")
    await recommender.close()
