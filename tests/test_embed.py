"""Embedders: in process, and anybody's /v1/embeddings over a real socket."""

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
from service.errors import BadRequest, ConfigError, ModelError
from service.schema import RecommendRequest
from tests.conftest import FILMS, MODELS, Make

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
    monkeypatch.setenv("WHYRANK_EMBED__PATH", str(MODELS / "minilm"))
    config = ["--config", str(HOUSE / "configs" / "test.yaml")]
    films = tmp_path / "films.jsonl"
    films.write_text('{"id": "a", "title": "Alien"}\n')
    assert CliRunner().invoke(app, [*config, "ingest", "items", str(films)]).exit_code == 0
    ran = CliRunner().invoke(app, [*config, "ingest", "--re-embed"])
    assert ran.exit_code == 0, ran.output
    assert "items: 1 embedded by minilm" in " ".join(ran.output.split())
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
        "import sys; from pathlib import Path; from service.embed import Embedder; "
        "Embedder(Path(sys.argv[1]))"
    )
    alone = {"HOME": str(tmp_path), "PATH": ""}  # without CI, where it is silent anyhow
    subprocess.run(
        [sys.executable, "-c", code, str(MODELS / "minilm")], env=alone, cwd=HOUSE, check=True
    )
    assert not list(tmp_path.iterdir()), "a device id, or reports that wait to be sent"
