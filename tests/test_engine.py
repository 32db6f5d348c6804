"""The real thing: vLLM serving `tiny`, started and stopped by us."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from service.config import HOUSE, Settings
from service.engine import books, cpu, feeds, groceries, server
from service.engine.fetch import unpack
from service.engine.movielens import _item
from service.errors import BadRequest, ConfigError
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


PRODUCTS = [
    (1, "MEAT", "National", "BEEF", "PRIMAL"),
    (2, "GROCERY", "Private", "EGGS", "EGGS - LARGE"),
    (3, "GROCERY", "Private", "EGGS", "EGGS - LARGE"),  # of another size
    (4, "FUEL", "National", "GASOLINE", "GASOLINE"),
    (5, "DRUG GM", "National", "CANDY - CHECKLANE", "CANDY BARS (SINGLES)(INCLUDING"),
    (6, "GROCERY", "National", None, None),
]


def test_groceries_are_kinds_of_goods_that_a_household_bought_for_the_first_time(tmp_path: Path) -> None:
    bought = [(7, 3, 9), (7, 2, 5), (8, 2, 6), (7, 1, 1), (7, 4, 1), (8, 4, 1), (7, 5, 2), (8, 5, 3), (2_000, 1, 1), (8, 6, 1)]
    times = [(household, product, datetime(2017, 1, day)) for household, product, day in bought]
    columns = ["product_id", "department", "brand", "product_category", "product_type"]
    files = {
        "products.parquet": _table(tmp_path / "products.parquet", columns, PRODUCTS),
        "transactions.parquet": _table(tmp_path / "transactions.parquet", groceries.COLUMNS, times),
    }
    found = groceries.feeds(files, least=2)
    assert [item["title"] for item in found["items"]] == ["Eggs - large (store brand)", "Candy bars (singles)"]
    titles = {item["id"]: item["title"] for item in found["items"]}
    eggs = [(one["user_id"], one["occurred_at"][:10]) for one in found["events"] if titles[one["item_id"]].startswith("Eggs")]
    assert eggs == [("7", "2017-01-05"), ("8", "2017-01-06")]
    assert groceries._item(dict(zip(columns, PRODUCTS[0], strict=True)))["title"] == "Beef: primal"


def _table(file: Path, columns: list[str], rows: list[Any]) -> Path:
    parts = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(parts), file)
    return file


def test_books_are_editions_in_one_and_ratings_in_stars(tmp_path: Path) -> None:
    (tmp_path / "BX-Books.csv").write_bytes(
        b'"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication"\n'
        b'"1";"Die gro\xc3\x9fe &amp; \\"neue\\" Welt";"A. B";"1999"\n"2";"DIE GRO\xdfE &amp; \\"NEUE\\" WELT";"A. B";"0"\n'
        b'"3";"Other; one";"C";"0"\n"4";"Rare";"D";"2001"\n'
    )
    ratings = ["u;1;7", "u;2;9", "u;3;2", "v;2;0", "v;1;10", "v;3;8", "w;3;8", "w;4;0", "w;9;8"]
    lines = ['"User-ID";"ISBN";"Book-Rating"', *(";".join(f'"{part}"' for part in line.split(";")) for line in ratings)]
    (tmp_path / "BX-Book-Ratings.csv").write_text("\n".join(lines) + "\n")
    found = books.feeds({file.name: file for file in tmp_path.iterdir()}, least=2)
    assert list(found["items"]) == [
        {"id": "1", "title": 'Die große & "neue" Welt', "attributes": {"author": "A. B", "year": 1999}},
        {"id": "3", "title": "Other; one", "attributes": {"author": "C"}},
    ]
    given = {(one["user_id"], one["item_id"]): one["value"] for one in found["events"]}
    assert given == {("u", "1"): 4.5, ("u", "3"): 1.0, ("v", "1"): 5.0, ("v", "3"): 4.0}


def test_a_data_set_that_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    assert feeds.pull("books", tmp_path, lambda what, done, total: None) == tmp_path / "books"
    with pytest.raises(BadRequest, match="known: movielens-100k, groceries, books"):
        feeds.pull("netflix", tmp_path, lambda what, done, total: None)
