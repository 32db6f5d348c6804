"""The real thing: vLLM serving `tiny`, started and stopped by us."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.config import HOUSE, Settings
from service.engine import cpu, server
from service.engine.fetch import unpack
from service.engine.movielens import _item
from service.errors import ConfigError
from service.pipeline import build
from service.schema import RecommendRequest
from tests.conftest import FILMS, on_real_tiny
from tests.test_prompts import HOSTILE

PORT = 18431


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = on_real_tiny(tmp_path_factory.mktemp("data"), PORT)
    with server.running(settings):
        yield settings


async def test_a_real_model_ranks_and_justifies_hostile_titles(engine: Settings) -> None:
    recommender = await build(engine)
    films = FILMS + [{"id": f"h{n}", "title": title, "attributes": {"genre": ["Horror"]}} for n, title in enumerate(HOSTILE)]
    await recommender.ingest_items(films)
    await recommender.embed_pending()
    await recommender.ingest_events([{"user_id": "u", "item_id": item, "type": "like"} for item in ("alien", "notting", "h1")])
    assert await recommender.probe("tiny", 30) == ""
    ranking = await recommender.recommend(RecommendRequest(user_id="u", top_n=20, deadline_ms=120_000))
    assert (ranking.strategy, ranking.model, ranking.degraded) == ("listwise", "tiny", None)
    ids = [item.item_id for item in ranking.items]
    assert sorted(ids) == sorted(str(film["id"]) for film in films)  # a like consumes nothing
    assert ranking.repairs.missing + ranking.repairs.duplicate + ranking.repairs.unknown == 0
    assert {one for item in ranking.items for one in item.evidence} <= {"alien", "notting", "h1"}
    again = await recommender.recommend(RecommendRequest(user_id="u", top_n=20, deadline_ms=120_000))
    assert again.usage.cached_tokens > ranking.usage.cached_tokens
    assert [item.item_id for item in again.items] == [item.item_id for item in ranking.items]
    await recommender.close()


async def test_a_deadline_too_short_for_the_model_is_kept_by_the_prior(engine: Settings) -> None:
    recommender = await build(engine)
    await recommender.ingest_items(FILMS)
    ranking = await recommender.recommend(RecommendRequest(user_id="v", top_n=8, deadline_ms=100))
    assert ranking.strategy == "prior"
    assert ranking.degraded is not None
    assert ranking.degraded.reason == "timeout"
    await recommender.close()


def test_an_engine_without_weights_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings.load(HOUSE / "configs" / "test.yaml").model_copy(update={"data": tmp_path})
    with pytest.raises(ConfigError, match="whyrank models pull tiny"):
        server.command(settings)


def test_the_gpu_configuration_makes_a_plain_vllm_command() -> None:
    line = server.command(Settings.load(HOUSE / "configs" / "gpu.yaml"))
    assert line[line.index("--model") + 1] == "Qwen/Qwen3-8B"


@pytest.mark.parametrize(
    ("flags", "dtype", "int8"), [("avx2 avx512_bf16 avx512_vnni", "bfloat16", True), ("avx avx2", "float32", False)]
)
def test_the_engine_counts_in_what_the_cpu_is_fast_in(tmp_path: Path, flags: str, dtype: str, int8: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags}\n")
    assert cpu.dtype(tmp_path / "cpuinfo") == [f"--dtype={dtype}"]
    assert cpu.int8(tmp_path / "cpuinfo") == int8
    assert cpu.dtype(tmp_path / "none") == []


def test_an_archive_without_the_file_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("x/y.txt", "z")
    with pytest.raises(ConfigError, match="holds nothing like"):
        unpack(tmp_path / "a.whl", r"nothing", tmp_path)


def test_a_film_reads_as_people_write_it() -> None:
    row = {"item_id": "1", "movie_title": "Matrix, The", "release_year": "1999", "class": "Action Sci-Fi"}
    assert _item(row) == {"id": "1", "title": "The Matrix", "attributes": {"year": 1999, "genre": ["Action", "Sci-Fi"]}}
