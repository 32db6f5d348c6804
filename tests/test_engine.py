"""The real thing: vLLM serving `tiny`, started and stopped by us."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow
import pyarrow.parquet
import pytest
from scipy.stats import spearmanr
from tokenizers import Tokenizer

from service.build import build
from service.config import HOUSE, Settings
from service.engine import books, groceries, server
from service.engine.fetch import pull_set, unpack
from service.engine.movielens import _item
from service.errors import BadRequest, ConfigError
from service.llm.local import Local
from service.llm.openai import VLLM
from service.schema import RecommendRequest, Repairs
from tests.conftest import FILMS, MODELS, on_real_tiny, sent
from tests.test_prompts import HOSTILE

PORT = 18431
BLOCK = 32
"""Tokens of a block of the prefix cache, as in the configuration."""
LIKED = [
    "Star Wars (1977)",
    "The Empire Strikes Back (1980)",
    "Raiders of the Lost Ark (1981)",
    "Aliens (1986)",
]
OTHERS = [
    *(
        "Return of the Jedi (1983)",
        "The Terminator (1984)",
        "Blade Runner (1982)",
        "Sense and Sensibility (1995)",
    ),
    *(
        "The English Patient (1996)",
        "Toy Story (1995)",
        "Fargo (1996)",
        "Scream (1996)",
        "Emma (1996)",
        "Clueless (1995)",
    ),
]


async def compared(
    settings: Settings, cases: Iterable[tuple[list[str], list[str]]]
) -> tuple[list[float], list[float]]:
    """How far the engine's likelihoods lie from those of the same weights in process, in nats, for
    each title of cases of (liked titles, others), and for each case the rank correlation."""
    model = settings.models["tiny"]
    there = VLLM("tiny", model=model.model, base_url=model.base_url)
    here = Local("tiny", MODELS / "tiny", threads=2, cache_mb=64)
    differences: list[float] = []
    correlations = []
    for liked, titles in cases:
        context = "Films that one person liked:\n", *(f"{title}\n" for title in liked)
        asked = [sent(context, title) for title in titles]
        one, two = await there.loglikelihoods(asked), await here.loglikelihoods(asked)
        differences += [abs(a - b) for a, b in zip(one.values, two.values, strict=True)]
        correlations.append(float(spearmanr(one.values, two.values).statistic))
    await there.close()
    return differences, correlations


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = on_real_tiny(tmp_path_factory.mktemp("data"), PORT)
    with server.running(settings):
        yield settings


async def test_a_real_model_ranks_and_justifies_hostile_titles(engine: Settings) -> None:
    service = await build(engine)
    films = FILMS + [
        {"id": f"h{n}", "title": title, "attributes": {"genre": ["Horror"]}}
        for n, title in enumerate(HOSTILE)
    ]
    await service.ingest.items(films)
    await service.ingest.embed_pending()
    liked = {"alien", "notting", "h1"}
    await service.ingest.events(
        [{"user_id": "u", "item_id": item, "type": "like"} for item in sorted(liked)]
    )
    ranking = await service.recommender.recommend(
        RecommendRequest(user_id="u", top_n=20, deadline_ms=120_000)
    )
    assert (ranking.strategy, ranking.model, ranking.degraded) == ("listwise", "tiny", None)
    ids = [item.item_id for item in ranking.items]
    assert sorted(ids) == sorted({str(film["id"]) for film in films} - liked)
    assert ranking.repairs.missing + ranking.repairs.duplicate + ranking.repairs.unknown == 0
    assert {one for item in ranking.items for one in item.evidence} <= liked
    again = await service.recommender.recommend(
        RecommendRequest(user_id="u", top_n=20, deadline_ms=120_000)
    )
    assert again.usage.prompt_tokens < ranking.usage.prompt_tokens  # reasons are kept
    assert again.usage.cached_tokens > 0.8 * again.usage.prompt_tokens
    assert sorted(item.item_id for item in again.items) == sorted(
        ids
    )  # near ties may fall otherwise: what was kept adds up so
    await service.close()


async def test_a_real_engine_is_found_able_to_do_everything(engine: Settings) -> None:
    service = await build(engine)
    able = await service.models.probe("tiny", seconds=120)
    assert (able.grammar, able.json_schema, able.context) == (True, "enforced", 4_096)
    assert (able.token_logprobs, able.top_logprobs, able.prompt_logprobs) == (True, 128, True)
    assert able.cached_tokens
    assert able.read_tps is not None
    assert able.write_tps is not None
    assert min(able.write_tps, able.read_tps) > 0
    await service.close()


@pytest.mark.parametrize(
    "strategy", ["likelihood", "first_token", "listwise", "keyed", "pointwise"]
)
async def test_every_strategy_ranks_on_the_real_engine(engine: Settings, strategy: str) -> None:
    changed = {
        "rank": {"orderings": 2},
        "roles": {"score": "tiny"},
        "models": {"tiny": {"weight": 1}},
    }
    service = await build(engine.changed(changed))
    await service.ingest.items(FILMS)
    await service.ingest.embed_pending()
    await service.ingest.events(
        [{"user_id": "s", "item_id": item, "type": "like"} for item in ("alien", "thing")]
    )
    films = [str(film["id"]) for film in FILMS]
    request = RecommendRequest(
        user_id="s", candidates=films, strategy=strategy, explain="none", deadline_ms=300_000
    )
    ranking = await service.recommender.recommend(request)
    assert (ranking.strategy, ranking.model, ranking.degraded) == (strategy, "tiny", None)
    assert ranking.repairs == Repairs()
    assert sorted(item.item_id for item in ranking.items) == sorted(films)
    assert all("model" in item.signals for item in ranking.items)
    await service.close()


async def test_likelihoods_over_http_are_those_of_the_weights_in_process(engine: Settings) -> None:
    differences, correlations = await compared(engine, [(LIKED[:n], OTHERS) for n in (1, 4)])
    assert max(differences) < 0.5
    assert min(correlations) > 0.95  # of ten titles two may be as likely


async def test_an_engine_reads_again_only_what_changed(engine: Settings) -> None:
    """Candidates, task and at most a block; after an event also the event and at most another."""
    service = await build(engine)
    more = [
        {"id": f"m{n}", "title": title, "attributes": {"genre": ["Drama"]}}
        for n, title in enumerate([f"{uuid4()}", *LIKED, *OTHERS])
    ]
    await service.ingest.items(FILMS + more)
    await service.ingest.embed_pending()
    await service.ingest.events(
        [{"user_id": "p", "item_id": f"m{n}", "type": "like"} for n in range(5)]
    )
    tokenizer = Tokenizer.from_file(str(MODELS / "tiny" / "tokenizer.json"))

    async def read(candidates: Sequence[str]) -> tuple[int, int]:
        """Tokens of the prompt that were computed, and of its candidates and task."""
        request = RecommendRequest(
            user_id="p", candidates=list(candidates), explain="none", deadline_ms=300_000
        )
        usage = (await service.recommender.recommend(request)).usage
        shown = (await service.previewer.preview(request, "rank")).messages[-1]["content"]
        tail = (
            "\n\nCandidates:"
            + shown.split("\n\nCandidates:")[1]
            + "<|im_end|>\n<|im_start|>assistant\n"
        )
        return usage.prompt_tokens - usage.cached_tokens, len(tokenizer.encode(tail).ids)

    films = [str(film["id"]) for film in FILMS]
    cold, tail = await read(films)
    assert cold > tail + 2 * BLOCK
    same, tail = await read(films)
    assert same <= BLOCK
    others, tail = await read([f"m{n}" for n in range(5, 13)])
    assert others <= tail + BLOCK
    await service.ingest.events([{"user_id": "p", "item_id": "m5", "type": "like"}])
    event = len(tokenizer.encode(f'h6) liked "{more[5]["title"]}" - Drama\n').ids)
    after, tail = await read(films)
    assert after <= tail + event + 2 * BLOCK
    await service.close()


async def test_a_deadline_too_short_for_the_model_is_kept_by_the_prior(engine: Settings) -> None:
    service = await build(engine)
    await service.ingest.items(FILMS)
    ranking = await service.recommender.recommend(
        RecommendRequest(user_id="v", top_n=8, deadline_ms=100)
    )
    assert ranking.strategy == "prior"
    assert ranking.degraded is not None
    assert ranking.degraded.reason == "timeout"
    await service.close()


def test_an_engine_without_weights_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings.load(HOUSE / "configs" / "test.yaml").model_copy(update={"data": tmp_path})
    with pytest.raises(ConfigError, match="whyrank models pull tiny"):
        server.command(settings)


def test_the_gpu_configuration_makes_a_plain_vllm_command() -> None:
    line = server.command(Settings.load(HOUSE / "configs" / "gpu.yaml"))
    assert line[line.index("--model") + 1] == "Qwen/Qwen3-8B"


@pytest.mark.parametrize(
    ("flags", "dtype", "int8"),
    [("avx2 avx512_bf16 avx512_vnni", "bfloat16", True), ("avx avx2", "float32", False)],
)
def test_the_engine_counts_in_what_the_cpu_is_fast_in(
    tmp_path: Path, flags: str, dtype: str, int8: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags}\n")
    assert server.dtype(tmp_path / "cpuinfo") == [f"--dtype={dtype}"]
    assert server.int8(tmp_path / "cpuinfo") == int8
    assert server.dtype(tmp_path / "none") == []


def test_an_archive_without_the_file_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("x/y.txt", "z")
    with pytest.raises(ConfigError, match="holds nothing like"):
        unpack(tmp_path / "a.whl", r"nothing", tmp_path)


def test_a_film_reads_as_people_write_it() -> None:
    row = {
        "item_id": "1",
        "movie_title": "Matrix, The",
        "release_year": "1999",
        "class": "Action Sci-Fi",
    }
    assert _item(row) == {
        "id": "1",
        "title": "The Matrix",
        "attributes": {"year": 1999, "genre": ["Action", "Sci-Fi"]},
    }


PRODUCTS = [
    (1, "MEAT", "National", "BEEF", "PRIMAL"),
    (2, "GROCERY", "Private", "EGGS", "EGGS - LARGE"),
    (3, "GROCERY", "Private", "EGGS", "EGGS - LARGE"),  # of another size
    (4, "FUEL", "National", "GASOLINE", "GASOLINE"),
    (5, "DRUG GM", "National", "CANDY - CHECKLANE", "CANDY BARS (SINGLES)(INCLUDING"),
    (6, "GROCERY", "National", None, None),
]


def test_groceries_are_kinds_of_goods_that_a_household_bought_for_the_first_time(
    tmp_path: Path,
) -> None:
    bought = [
        (7, 3, 9),
        (7, 2, 5),
        (8, 2, 6),
        (7, 1, 1),
        (7, 4, 1),
        (8, 4, 1),
        (7, 5, 2),
        (8, 5, 3),
        (2_000, 1, 1),
        (8, 6, 1),
    ]
    times = [(household, product, datetime(2017, 1, day)) for household, product, day in bought]
    columns = ["product_id", "department", "brand", "product_category", "product_type"]
    files = {
        "products.parquet": _table(tmp_path / "products.parquet", columns, PRODUCTS),
        "transactions.parquet": _table(tmp_path / "transactions.parquet", groceries.COLUMNS, times),
    }
    found = groceries.feeds(files, least=2)
    assert [item["title"] for item in found["items"]] == [
        "Eggs - large (store brand)",
        "Candy bars (singles)",
    ]
    titles = {item["id"]: item["title"] for item in found["items"]}
    eggs = [
        (one["user_id"], one["occurred_at"][:10])
        for one in found["events"]
        if titles[one["item_id"]].startswith("Eggs")
    ]
    assert eggs == [("7", "2017-01-05"), ("8", "2017-01-06")]
    assert groceries._item(dict(zip(columns, PRODUCTS[0], strict=True)))["title"] == "Beef: primal"


def _table(file: Path, columns: list[str], rows: list[Any]) -> Path:
    parts = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(parts), file)
    return file


def test_books_are_editions_in_one_and_ratings_in_stars(tmp_path: Path) -> None:
    (tmp_path / "BX-Books.csv").write_bytes(
        b'"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication"\n'
        b'"1";"Die gro\xc3\x9fe &amp; \\"neue\\" Welt";"A. B";"1999"\n'
        b'"2";"DIE GRO\xdfE &amp; \\"NEUE\\" WELT";"A. B";"0"\n'
        b'"3";"Other; one";"C";"0"\n"4";"Rare";"D";"2001"\n'
    )
    ratings = ["u;1;7", "u;2;9", "u;3;2", "v;2;0", "v;1;10", "v;3;8", "w;3;8", "w;4;0", "w;9;8"]
    lines = [
        '"User-ID";"ISBN";"Book-Rating"',
        *(";".join(f'"{part}"' for part in line.split(";")) for line in ratings),
    ]
    (tmp_path / "BX-Book-Ratings.csv").write_text("\n".join(lines) + "\n")
    found = books.feeds({file.name: file for file in tmp_path.iterdir()}, least=2)
    assert list(found["items"]) == [
        {
            "id": "1",
            "title": 'Die große & "neue" Welt',
            "attributes": {"author": "A. B", "year": 1999},
        },
        {"id": "3", "title": "Other; one", "attributes": {"author": "C"}},
    ]
    given = {(one["user_id"], one["item_id"]): one["value"] for one in found["events"]}
    assert given == {("u", "1"): 4.5, ("u", "3"): 1.0, ("v", "1"): 5.0, ("v", "3"): 4.0}


def test_a_data_set_that_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    assert pull_set("books", tmp_path, lambda what, done, total: None) == tmp_path / "books"
    with pytest.raises(BadRequest, match="known: movielens-100k, groceries, books"):
        pull_set("netflix", tmp_path, lambda what, done, total: None)
