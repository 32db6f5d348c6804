import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.config import DOMAIN_MEANINGS, HOUSE, MEANINGS, Settings
from service.errors import ConfigError
from service.schema import Meaning


@pytest.mark.parametrize("name", sorted(file.stem for file in (HOUSE / "configs").glob("*.yaml")))
def test_every_shipped_configuration_loads(name: str) -> None:
    assert Settings.load(HOUSE / "configs" / f"{name}.yaml").models


def written(folder: Path, more: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text((HOUSE / "configs" / "test.yaml").read_text() + more)
    return file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank: {windw: 3}\n", "rank.windw: no such setting"),
        ("rank: {window: 99}\n", "rank.window"),
        ("surprise: 1\n", "surprise: no such setting"),
        ("retrieve: {k: many}\n", "retrieve.k"),
        ("fallback: [ghost]\n", "fallback[0] names 'ghost'"),
        ("api_key: sixteen-characters\n", "WHYRANK_API_KEY"),
        ("rank: [\n", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    file = written(tmp_path, "")
    if text.startswith("fallback"):
        file.write_text(file.read_text().replace("fallback: []\n", text))
    else:
        file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        Settings.load(file)
    assert message in caught.value.message
    assert str(file) in caught.value.message


def test_the_environment_wins_and_is_named_when_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_RANK__WINDOW", "7")
    assert Settings.load(HOUSE / "configs" / "test.yaml").rank.window == 7
    monkeypatch.setenv("WHYRANK_RANK__WINDOW", "700")
    with pytest.raises(ConfigError, match="environment WHYRANK_RANK__WINDOW"):
        Settings.load(HOUSE / "configs" / "test.yaml")
    monkeypatch.delenv("WHYRANK_RANK__WINDOW")
    monkeypatch.setenv("WHYRANK_SURPRISE", "1")
    with pytest.raises(ConfigError, match="WHYRANK_SURPRISE"):
        Settings.load(HOUSE / "configs" / "test.yaml")


def test_a_change_in_code_is_not_undone_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_RANK__WINDOW", "7")
    settings = Settings.load(HOUSE / "configs" / "test.yaml")
    assert settings.changed({"rank": {"window": 9}}).rank.window == 9
    assert settings.changed({"explain": {"top": 2}}).rank.window == 7
    with pytest.raises(ConfigError, match=r"rank\.window"):
        settings.changed({"rank": {"window": 700}})


def test_a_meaning_is_what_was_said_of_it_over_the_domains_and_the_general_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = "{purchase: {repeat_after: 30}, tasted: {weight: 0.5}}"
    said = (
        f"{{shop: {shop}, generic: {{like: {{weight: 0.9}}}}, movies: {{like: {{verb: loved}}}}}}"
    )
    monkeypatch.setenv("WHYRANK_EVENTS__MEANINGS__MOVIES__PLAY__CONSUMES", "false")
    loaded = Settings.load(written(tmp_path, f"events: {{meanings: {said}}}\n"))
    for settings in (
        loaded,
        loaded.changed({"rank": {"window": 9}}),
        loaded.changed({"events": {"future_tolerance_s": 1}}),
    ):
        goods, movies, other = (
            settings.events.of(domain) for domain in ("shop", "movies", "other")
        )
        bought = MEANINGS["purchase"].model_copy(update={"repeat_after": 30})
        assert goods["purchase"] == bought
        assert goods["like"] == Meaning(weight=0.9, consumes=False, verb="liked")
        assert movies["like"] == Meaning(weight=0.9, consumes=True, verb="loved")
        assert movies["play"] == Meaning(weight=0.6, consumes=False, verb="played")
        assert (goods["tasted"].weight, "tasted" in movies, "tasted" in settings.events.known) == (
            0.5,
            False,
            True,
        )
        assert other == {**MEANINGS, "like": Meaning(weight=0.9, consumes=True, verb="liked")}


def test_the_docs_say_what_every_event_type_means() -> None:
    """A row a type: what it counts, and whether its item is recommended again."""
    table = (HOUSE / "docs" / "feeds.md").read_text()
    for kind, meaning in MEANINGS.items():
        counts = f"{meaning.weight:g}"
        if meaning.liked_from is not None:
            counts += f" from {meaning.liked_from:g} on, -{meaning.weight:g}"
            counts += f" up to {meaning.disliked_to:g}, else 0"
        again = "no" if meaning.consumes else "not before `unblock`" if meaning.blocks else "yes"
        domains = [domain for domain, meanings in DOMAIN_MEANINGS.items() if kind in meanings]
        for domain in domains:
            assert DOMAIN_MEANINGS[domain][kind].consumes is not meaning.consumes
        takes_back = meaning.takes_back and not meaning.consumes
        back = f", also after a `{meaning.takes_back}`" if takes_back else ""
        more = f"; in {', '.join(f'`{domain}`' for domain in domains)}: yes" if domains else ""
        assert f"| `{kind}` | {counts} | {again}{back}{more} |" in table, kind


VLLM = "{backend: vllm, model: Qwen/Qwen3-8B, base_url: 'http://127.0.0.1:8001/v1'}"
OLLAMA = "{backend: openai, model: qwen3, base_url: 'http://127.0.0.1:11434/v1'}"
CLAUDE = "{backend: litellm, model: anthropic/claude-haiku-4-5, api_key_env: ANTHROPIC_API_KEY}"
TINY = "{backend: local, model: tiny}"


@pytest.mark.parametrize(
    ("text", "rank", "explain", "score", "served"),
    [
        (f"models: {{qwen: {VLLM}}}", "qwen", "qwen", None, "qwen"),
        (
            f"models: {{qwen: {VLLM}}}\nroles: {{rank: qwen, explain: qwen}}",
            "qwen",
            "qwen",
            None,
            "qwen",
        ),
        (f"models: {{a: {OLLAMA}, b: {VLLM}, c: {VLLM}}}", "a", "a", None, "b"),
        (f"models: {{a: {OLLAMA}, b: {VLLM}, c: {VLLM}}}\nroles: {{rank: c}}", "c", "c", None, "c"),
        (f"models: {{a: {VLLM}, b: {VLLM}}}\nengine: {{model: b}}", "a", "a", None, "b"),
        (f"models: {{claude: {CLAUDE}}}", "claude", "claude", None, None),
        (f"models: {{ollama: {OLLAMA}}}", "ollama", "ollama", None, None),
        (f"models: {{tiny-local: {TINY}, qwen: {VLLM}}}", "qwen", "qwen", None, "qwen"),
        (f"models: {{tiny-local: {TINY}}}", None, None, "tiny-local", None),
        (
            "service: {domain: shop}\ncatalog: {filterable: {category: str, price: float}}",
            None,
            None,
            None,
            None,
        ),
        ("models:\nroles:\n", None, None, None, None),
        ("", None, None, None, None),
    ],
)
def test_what_a_file_leaves_out_falls_to_the_models_that_it_has(
    tmp_path: Path,
    text: str,
    rank: str | None,
    explain: str | None,
    score: str | None,
    served: str | None,
) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(text)
    settings = Settings.load(file)
    assert (settings.roles.rank, settings.roles.explain, settings.roles.score) == (
        rank,
        explain,
        score,
    )
    assert settings.served == served


def test_the_whole_configurations_of_the_readme_load(tmp_path: Path) -> None:
    after = (HOUSE / "README.md").read_text().split("whole\nconfigurations:")[1]
    texts = re.findall(r"```yaml\n(.*?)```", after, re.DOTALL)[:2]
    (tmp_path / "shop.yaml").write_text(texts[0])
    assert Settings.load(tmp_path / "shop.yaml").roles.rank is None
    (tmp_path / "shop.yaml").write_text(texts[1])
    assert Settings.load(tmp_path / "shop.yaml").served == "qwen"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"models: {{qwen: {VLLM}}}\nroles: {{rank: small}}",
            "roles.rank names 'small', which is not under models (qwen)",
        ),
        (f"models: {{qwen: {VLLM}}}\nengine: {{model: small}}", "engine.model names 'small'"),
        (
            "rank: {strategy: listwise}",
            "rank.strategy is 'listwise', which asks a model, and there is none under models",
        ),
    ],
)
def test_a_model_that_is_named_has_to_be_there(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Settings.load(file)
    assert message in caught.value.message


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_without_any_model_the_prior_ranks_and_the_doctor_finds_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.yaml").write_text(
        "service: {domain: shop}\ncatalog: {filterable: {category: str}}\n"
    )
    (tmp_path / "goods.csv").write_text(
        "id,title,category\nkettle,Kettle,kitchen\nwok,Wok,kitchen\ntent,Tent,camping\n"
    )
    (tmp_path / "log.csv").write_text(
        "user_id,item_id,type,occurred_at\nmaya,kettle,purchase,2026-05-01T12:00:00Z\n"
    )
    monkeypatch.setenv("WHYRANK_CONFIG", str(tmp_path / "shop.yaml"))
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path / "data"))
    assert run("ingest", "items", str(tmp_path / "goods.csv")).exit_code == 0
    assert run("ingest", "events", str(tmp_path / "log.csv")).exit_code == 0
    ranking = json.loads(run("recommend", "maya", "--json").stdout)
    assert {item["item_id"] for item in ranking["items"]} == {"wok", "tent"}
    assert (ranking["strategy"], ranking["model"], ranking["degraded"]) == ("prior", None, None)
    doctor = run("doctor")
    assert doctor.exit_code == 0
    assert "no models: the prior ranks alone" in " ".join(doctor.output.split())
    refused = run("recommend", "maya", "--strategy", "listwise")
    assert (
        refused.exit_code,
        "needs a model (roles.rank)" in " ".join(refused.output.split()),
    ) == (2, True)
    assert "no engine to start" in " ".join(run("engine").output.split())
    for words in (("models", "list"), ("models", "probe")):
        assert run(*words).exit_code == 0


def test_the_doctor_pulls_no_model_that_vllm_fetches_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.yaml").write_text(f"models: {{qwen: {VLLM.replace('8001', '9')}}}")
    monkeypatch.setenv("WHYRANK_CONFIG", str(tmp_path / "shop.yaml"))
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path / "data"))
    output = " ".join(run("doctor").output.split())
    assert "vLLM fetches Qwen/Qwen3-8B itself" in output
    assert "models pull" not in output


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/", "https://*.example", ""]
)
def test_an_origin_that_no_browser_sends_is_refused(settings: Settings, origin: str) -> None:
    with pytest.raises(ConfigError, match=r"service\.cors"):
        settings.changed({"service": {"cors": [origin]}})


def test_the_key_never_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_API_KEY", "a-key-of-enough-length")
    assert "a-key-of-enough-length" not in repr(Settings.load(HOUSE / "configs" / "test.yaml"))


def test_weights_that_an_older_build_fitted_know_no_collaborative_source(
    settings: Settings,
) -> None:
    folder = settings.data / "weights"
    folder.mkdir(parents=True)
    (folder / "movies.tiny.yaml").write_text(
        "weights: {similar: 0.5, context: 1, query: 1, popular: 1, model: 0.2}\n"
    )
    assert settings.fitted()["movies.tiny"].at(9)["collaborative"] == 0


def test_a_source_weighs_the_same_for_all_or_by_how_much_somebody_liked(
    settings: Settings,
) -> None:
    changed = settings.changed({"retrieve": {"similar": [0.4, 0.3, 0.2, 0.1], "popular": 0.7}})
    weights = changed.configured("movies", None)
    seen = [weights.at(likes)["similar"] for likes in (0, 1, 3, 4, 20, 21, 500)]
    assert seen == [0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1]
    assert {weights.at(likes)["popular"] for likes in (0, 2, 9, 99)} == {0.7}
    assert changed.configured("movies", None).at(9)["sequence"] == 0.4
    assert changed.configured("shop", None).at(9)["sequence"] == 0
    own = settings.changed({"retrieve": {"sequence": 0.2}})
    assert own.configured("shop", None).at(9)["sequence"] == 0.2


@pytest.mark.parametrize("weight", [2, -0.1, [0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 7], "much"])
def test_a_weight_that_is_none_is_refused_by_its_key(settings: Settings, weight: Any) -> None:
    with pytest.raises(ConfigError, match=r"retrieve\.similar"):
        settings.changed({"retrieve": {"similar": weight}})
