"""Weights that should be found are, and a model that only guesses gets none."""

import random
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from eval import fit as fitting
from eval.cases import Data
from eval.fit import FitTarget, earned_shares, fit, gains_by_history
from eval.protocols import Options, make
from eval.run import Allowance
from service.build import build
from service.config import HOUSE, MEANINGS, Settings
from service.errors import BadRequest, ConfigError
from service.llm import Call
from tests.conftest import letters_of
from tests.scripted import ScriptedLLM
from tests.test_eval_run import DENIED, reader, toy

BEGIN = "sources fitted", "the same, served"
PROMPTS = HOUSE / "prompts"


def guesser(call: Call) -> str:
    if "QXJ" in (call.grammar or ""):
        return "QXJ"
    letters = letters_of(call)
    random.Random(call.messages[-1]["content"]).shuffle(letters)
    return " ".join(letters)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer values are tried: each is measured on half of the people."""
    monkeypatch.setattr(fitting, "POPULARITY", (-0.1, 0.0, 0.1))
    monkeypatch.setattr(fitting, "DIVERSITY", (0.0, 0.2))


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    make(Data.read(toy(tmp_path / "toy")), "given", tmp_path / "cases", Options(MEANINGS))
    return tmp_path / "cases"


async def test_a_model_that_reads_gets_a_share_and_one_that_guesses_gets_none(
    cases: Path, settings: Settings, tmp_path: Path
) -> None:
    blind = settings.changed({"retrieve": DENIED})
    for answer, name in ((reader, "reads"), (guesser, "guesses")):
        maker = partial(build, llms={"tiny": ScriptedLLM(answer, alias="tiny")}, prompts=PROMPTS)
        told: list[str] = []
        found = await fit(
            FitTarget(cases, "tiny"), blind, tmp_path / name, maker, told.append, Allowance()
        )
        counted, served = (
            re.search(r": ([\d.]+)", next(line for line in told if line.startswith(begin)))
            for begin in BEGIN
        )
        assert counted is not None
        assert served is not None
        assert counted[1] == served[1]  # weights are weighed by the same arithmetic that serves
        test = found.record["test"]
        if answer is reader:
            weights = found.weights.at(9)  # the fit finds the sources it was denied
            assert sum(weights.values()) > weights["popular"]
            assert test["fitted - configured"]["low"] > 0
        else:
            assert found.weights.model == 0
            assert test["fused - prior"]["difference"] == 0
        assert found.record["people"]["validation"] + found.record["people"]["test"] == 60
    assert found.file == settings.data / "weights" / f"{settings.service.domain}.tiny.yaml"
    assert settings.fitted() == {f"{settings.service.domain}.tiny": found.weights}


KINDS = ("few", "some", "many")


async def test_a_model_that_knows_what_no_source_does_is_given_a_share(
    cases: Path, settings: Settings, tmp_path: Path
) -> None:
    """The product's prompts say what people declared, and these declared what they will like: the
    reader finds it there."""
    maker = partial(build, llms={"tiny": ScriptedLLM(reader, alias="tiny")}, prompts=PROMPTS)
    found = await fit(
        FitTarget(cases, "tiny"), settings, tmp_path / "out", maker, lambda line: None, Allowance()
    )
    assert isinstance(found.weights.model, tuple)
    assert max(found.weights.model) > 0
    assert found.record["validation"]["model alone - shuffled"]["low"] > 0
    assert found.record["test"]["fused - prior"]["low"] > 0


def test_a_share_is_earned_by_each_kind_of_history() -> None:
    """The model helps people with few likes, harms those with many, and nobody has none."""
    dice = np.random.default_rng(0)
    kinds = [1] * 40 + [2] * 40 + [3] * 40
    gains = np.repeat([0.1, 0.0, -0.1], 40) + dice.normal(0, 0.05, 120)
    gains[40:80] = dice.normal(0, 0.2, 40)
    prior = np.full(120, 0.3)
    curves = {0.0: prior, 0.5: prior + gains / 2, 1.0: prior + gains}
    assert earned_shares(curves, kinds) == (0.0, 1.0, 0.0, 0.0)
    told = gains_by_history(curves, kinds)
    assert [name.split(", ")[1] for name in told] == [f"{n} likes (40 cases)" for n in KINDS]
    assert told["share 1, few likes (40 cases)"]["low"] > 0
    assert told["share 0, many likes (40 cases)"]["difference"] == 0
    assert earned_shares({0.0: prior, 0.5: prior + 0.1, 1.0: prior}, [0] * 120) == (0.5,) * 4


async def test_too_few_people_are_refused(cases: Path, settings: Settings, tmp_path: Path) -> None:
    maker = partial(build, llms={"tiny": ScriptedLLM(reader, alias="tiny")}, prompts=PROMPTS)
    target, allowance = FitTarget(cases, "tiny"), Allowance(limit=30)
    with pytest.raises(BadRequest, match="too few"):
        await fit(target, settings, tmp_path / "out", maker, lambda line: None, allowance)


@pytest.mark.parametrize("text", ["", "weights: 1", "weights: {similar: 2}", "{", "found: {}"])
def test_weights_that_cannot_be_used_are_named_at_the_start(settings: Settings, text: str) -> None:
    folder = settings.data / "weights"
    folder.mkdir(parents=True)
    (folder / "movies.tiny.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"movies\.tiny\.yaml"):
        settings.fitted()
    assert settings.changed({"rank": {"fitted": False}}).fitted() == {}


async def test_the_service_ranks_by_fitted_weights(cases: Path, settings: Settings) -> None:
    folder = settings.data / "weights"
    folder.mkdir(parents=True)
    given = {
        "similar": 0,
        "context": 0,
        "query": 0,
        "popular": 1,
        "model": 1,
        "popularity": -0.1,
        "diversity": 0.1,
    }
    (folder / f"{settings.service.domain}.tiny.yaml").write_text(yaml.safe_dump({"weights": given}))
    service = await build(settings, llms={"tiny": ScriptedLLM(reader, alias="tiny")})
    from service.schema import RecommendRequest

    await service.ingest.items(
        [{"id": f"i{n}", "title": f"t {n}", "attributes": {"genre": ["War"]}} for n in range(8)]
    )
    await service.ingest.embed_pending()
    await service.ingest.events(
        [{"user_id": "v", "item_id": f"i{n}", "type": "like"} for n in (3, 5)]
    )
    ranking = await service.recommender.recommend(
        RecommendRequest(user_id="u", strategy="prior", explain="full")
    )
    assert {
        name for item in ranking.items for name in item.signals if name.startswith("source.")
    } == {"source.popular"}
    assert "popularity" in ranking.items[0].signals
    assert {item.item_id for item in ranking.items[:2]} == {"i3", "i5"}
    await service.close()


async def test_a_cap_that_leaves_too_little_to_learn_from_says_so(
    cases: Path, settings: Settings, tmp_path: Path
) -> None:
    priced = settings.changed({"models": {"tiny": {"price": {"input": 1, "output": 1}}}})
    maker = partial(build, llms={"tiny": ScriptedLLM(reader, alias="tiny")}, prompts=PROMPTS)
    told: list[str] = []
    target, allowance = FitTarget(cases, "tiny"), Allowance(spend=0.001)
    with pytest.raises(BadRequest, match=r"too few to weigh it; .* a higher --spend goes on"):
        await fit(target, priced, tmp_path / "out", maker, told.append, allowance)
    assert "questions not asked" in told[-1]
