"""Embedders: in process, and anybody's /v1/embeddings over a real socket."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, HTTPException, Request
from typer.testing import CliRunner

from service.build import build
from service.cli import app
from service.config import HOUSE, Settings
from service.embed import MultilingualEmbedder
from service.errors import BadRequest, ConfigError, ModelError
from service.schema import RecommendRequest
from tests.conftest import FILMS, Make, sentence_transformer

Serve = Callable[[Any], Any]


class FakeEmbedder:
    """Vectors of `size` numbers that follow from the text's letters; or what `manner` says."""

    def __init__(self, size: int = 8, manner: str = "obeys") -> None:
        self.size, self.manner = size, manner
        self.keys: set[str | None] = set()
        self.app = FastAPI()
        self.app.post("/v1/embeddings")(self.embeddings)

    async def embeddings(self, request: Request) -> Any:
        self.keys.add(request.headers.get("authorization"))
        given = (await request.json())["input"]
        if self.manner == "fails":
            raise HTTPException(500)
        if self.manner == "garbage":
            return {"data": [{"index": 0}]}
        rows = [
            [float(text.lower().count(chr(97 + n)) + 1) for n in range(self.size)] for text in given
        ]
        if self.manner == "short":
            rows = rows[1:]
        data = [{"index": n, "embedding": row} for n, row in enumerate(rows)][::-1]
        return {"data": data, "usage": {"prompt_tokens": len(given)}}


def at(settings: Settings, base: str) -> Settings:
    return settings.changed({"embed": {"base_url": f"{base}/v1", "model": "theirs"}})


async def test_a_remote_embedder_serves_the_catalogue_and_the_face(
    settings: Settings, serve: Serve
) -> None:
    theirs = FakeEmbedder()
    service = await build(at(settings, await serve(theirs.app)), llms={})
    await service.ingest.items(FILMS)
    assert await service.ingest.embed_pending() == len(FILMS)
    vectors, tokens = await service.embeddings.embed(["aab", "b"])
    assert (service.embeddings.dimension, tokens, vectors.shape) == (8, 2, (2, 8))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert service.embeddings.name.startswith("theirs-")
    asked = RecommendRequest(instruction="Alien", strategy="prior", top_n=1)
    assert (await service.recommender.recommend(asked)).items[0].item_id == "alien"
    theirs.manner = "fails"
    for manner in ("fails", "garbage", "short"):
        theirs.manner = manner
        ranking = await service.recommender.recommend(
            asked.model_copy(update={"instruction": f"Solaris {manner}"})
        )
        assert ranking.items[0].item_id == "solaris"  # by its words
        with pytest.raises(ModelError):
            await service.embeddings.embed([manner, "b"])
    await service.close()


@pytest.mark.parametrize(
    ("title", "said"),
    [("七人の侍", "侍の映画"), ("卧虎藏龙", "藏龙"), ("기생충", "기생"), ("ต้มยำกุ้ง", "กุ้ง")],
)
async def test_a_wish_finds_a_word_within_a_title_while_the_embedder_fails(
    settings: Settings, serve: Serve, title: str, said: str
) -> None:
    theirs = FakeEmbedder()
    service = await build(at(settings, await serve(theirs.app)), llms={})
    await service.ingest.items([*FILMS, {"id": "wanted", "title": title}])
    theirs.manner = "fails"
    asked = RecommendRequest(instruction=said, strategy="prior", top_n=1)
    assert (await service.recommender.recommend(asked)).items[0].item_id == "wanted"
    await service.close()


async def test_whoever_gives_no_vector_is_refused_at_start(
    settings: Settings, serve: Serve
) -> None:
    for base in (await serve(FakeEmbedder(manner="fails").app), "http://127.0.0.1:9"):
        with pytest.raises(ConfigError, match=r"embed\.base_url"):
            await build(at(settings, base), llms={})


@pytest.mark.parametrize("size", [8, 384])
async def test_another_embedder_is_another_space_until_all_is_embedded_anew(
    make: Make, settings: Settings, serve: Serve, size: int
) -> None:
    service = await make(llm=None)
    await service.close()
    changed = at(settings, await serve(FakeEmbedder(size).app))
    with pytest.raises(ConfigError, match="--re-embed"):
        await build(changed, llms={})
    moved = await build(changed, llms={}, re_embed=True)
    assert await moved.ingest.embed_pending() == len(FILMS)
    assert moved.embeddings.dimension == size
    await moved.close()
    again = await build(changed, llms={})
    assert await again.ingest.embed_pending() == 0
    await again.close()


def test_the_command_moves_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path))
    config = ["--config", str(HOUSE / "configs" / "test.yaml")]
    films = tmp_path / "films.jsonl"
    films.write_text('{"id": "a", "title": "Alien"}\n')
    assert CliRunner().invoke(app, [*config, "ingest", "items", str(films)]).exit_code == 0
    ran = CliRunner().invoke(app, [*config, "ingest", "--re-embed"])
    assert ran.exit_code == 0, ran.output
    assert "items: 1 embedded by use-multilingual" in " ".join(ran.output.split())
    bare = CliRunner().invoke(app, [*config, "ingest"])
    assert bare.exit_code == 2
    assert "which feed from which file" in bare.output


async def test_a_remote_embedder_needs_both_its_names(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="go together"):
        settings.changed({"embed": {"model": "theirs"}})
    with pytest.raises(ConfigError, match="expected an http"):
        settings.changed({"embed": {"model": "theirs", "base_url": "file:///etc"}})
    with pytest.raises(ConfigError, match="THEIR_KEY is not set"):
        await build(
            settings.changed(
                {
                    "embed": {
                        "model": "x",
                        "base_url": "http://127.0.0.1:9/v1",
                        "api_key_env": "THEIR_KEY",
                    }
                }
            )
        )


async def test_token_ids_that_are_none_are_refused(make: Make) -> None:
    service = await make()
    with pytest.raises(BadRequest, match="token ids"):
        await service.embeddings.embed([[10**6]])


def test_onnxruntime_tells_its_maker_nothing(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from service.embed import OnnxEmbedder; "
        "asyncio.run(OnnxEmbedder(Path(sys.argv[1])).embed_one('alien'))"
    )
    model = sentence_transformer(tmp_path / "model")
    (home := tmp_path / "home").mkdir()
    alone = {"HOME": str(home), "PATH": ""}  # without CI, where it is silent anyhow
    subprocess.run([sys.executable, "-c", code, model], env=alone, cwd=HOUSE, check=True)
    assert not list(home.iterdir()), "a device id, or reports that wait to be sent"


async def test_a_sentence_transformer_in_a_folder_serves_the_catalogue(
    settings: Settings, tmp_path: Path
) -> None:
    path = sentence_transformer(tmp_path / "model")
    service = await build(settings.changed({"embed": {"path": str(path)}}), llms={})
    await service.ingest.items(FILMS)
    await service.ingest.embed_pending()
    vectors, tokens = await service.embeddings.embed(["alien", "a film of alien", [2]])
    assert (service.embeddings.dimension, tokens) == (8, 6)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[0], vectors[2])
    assert service.embeddings.name.startswith("minilm-")
    asked = RecommendRequest(instruction="Solaris", strategy="prior", top_n=1)
    assert (await service.recommender.recommend(asked)).items[0].item_id == "solaris"
    with pytest.raises(BadRequest, match="token ids are below 6"):
        await service.embeddings.embed([[6]])
    await service.close()


# ── the embedder that comes with the service ──────────────────────────────────────────────────────

SAID = {
    "a tea pot": ["eine Teekanne", "una tetera", "une théière", "茶壶", "ティーポット", "чайник"],
    "a film about war": ["ein Film über den Krieg", "una película de guerra", "战争电影"],
    "diapers for babies": ["Windeln für Babys", "pañales para bebés", "婴儿纸尿裤", "おむつ"],
    "coffee beans": ["Kaffeebohnen", "granos de café", "咖啡豆", "コーヒー豆", "кофейные зёрна"],
}


async def test_a_text_is_closest_to_its_translations() -> None:
    embedder = MultilingualEmbedder()
    english = await embedder.embed(list(SAID))
    for n, translations in enumerate(SAID.values()):
        similar = await embedder.embed(translations) @ english.T
        assert (similar.argmax(axis=1) == n).all(), translations


@pytest.mark.parametrize("text", ["", " ", "\x00", "🫖" * 50, "word " * 100_000, "语" * 100_000])
async def test_any_text_has_a_vector(text: str) -> None:
    embedder = MultilingualEmbedder()
    assert np.linalg.norm(await embedder.embed_one(text)) == pytest.approx(1)


async def test_token_ids_and_their_text_have_one_vector() -> None:
    embedder = MultilingualEmbedder()
    ids = [1, 10, 3414, 16680, 1000, 2]
    vectors, tokens = await embedder.counted(["a space horror film", ids])
    assert np.allclose(vectors[0], vectors[1], atol=1e-5)
    assert tokens == 2 * len(ids)
    assert (await embedder.embed([])).shape == (0, 512)


async def test_texts_are_embedded_alike_in_any_company_and_from_threads_at_once() -> None:
    embedder = MultilingualEmbedder(threads=2)
    texts = [title for pair in SAID.items() for title in (pair[0], *pair[1])] * 20
    together = await embedder.embed(texts)
    alone = await asyncio.gather(*(embedder.embed([text]) for text in texts))
    assert np.allclose(together, np.concatenate(alone), atol=1e-5)
