from pathlib import Path

import pytest

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
    ("more", "told"),
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
def test_a_mistake_is_named_with_file_key_and_reason(tmp_path: Path, more: str, told: str) -> None:
    text = more
    file = written(tmp_path, "")
    if more.startswith("fallback"):
        file.write_text(file.read_text().replace("fallback: []\n", more))
    else:
        file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        Settings.load(file)
    assert told in caught.value.message
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
    shop = "{purchase: {repeat_after_days: 30}, tasted: {weight: 0.5}}"
    said = f"{{shop: {shop}, generic: {{like: {{weight: 0.9}}}}, movies: {{like: {{verb: loved}}}}}}"
    monkeypatch.setenv("WHYRANK_EVENTS__MEANINGS__MOVIES__PLAY__CONSUMES", "false")
    loaded = Settings.load(written(tmp_path, f"events: {{meanings: {said}}}\n"))
    for settings in (loaded, loaded.changed({"rank": {"window": 9}}), loaded.changed({"events": {"future_tolerance_s": 1}})):
        goods, movies, other = (settings.events.of(domain) for domain in ("shop", "movies", "other"))
        assert goods["purchase"] == Meaning(weight=1, consumes=True, verb="bought", repeat_after_days=30)
        assert goods["like"] == Meaning(weight=0.9, consumes=False, verb="liked")
        assert movies["like"] == Meaning(weight=0.9, consumes=True, verb="loved")
        assert movies["play"] == Meaning(weight=0.6, consumes=False, verb="played")
        assert (goods["tasted"].weight, "tasted" in movies, "tasted" in settings.events.types) == (0.5, False, True)
        assert other == {**MEANINGS, "like": Meaning(weight=0.9, consumes=True, verb="liked")}


def test_the_docs_say_what_every_event_type_means() -> None:
    """A row a type: what it counts, and whether its item is recommended again."""
    table = (HOUSE / "docs" / "feeds.md").read_text()
    for kind, meaning in MEANINGS.items():
        counts = f"{meaning.weight:g}"
        if meaning.positive_from is not None:
            counts += f" from {meaning.positive_from:g} on, -{meaning.weight:g} up to {meaning.negative_to:g}, else 0"
        again = "no" if meaning.consumes else "not before `unblock`" if meaning.blocks else "yes"
        domains = [domain for domain, told in DOMAIN_MEANINGS.items() if kind in told]
        for domain in domains:
            assert DOMAIN_MEANINGS[domain][kind].consumes is not meaning.consumes
        back = f", also after a `{meaning.takes_back}`" if meaning.takes_back else ""
        more = f"; in {', '.join(f'`{domain}`' for domain in domains)}: yes" if domains else ""
        assert f"| `{kind}` | {counts} | {again}{back}{more} |" in table, kind


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://*.example", ""])
def test_an_origin_that_no_browser_sends_is_refused(settings: Settings, origin: str) -> None:
    with pytest.raises(ConfigError, match=r"service\.cors"):
        settings.changed({"service": {"cors": [origin]}})


def test_the_key_never_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHYRANK_API_KEY", "a-key-of-enough-length")
    assert "a-key-of-enough-length" not in repr(Settings.load(HOUSE / "configs" / "test.yaml"))


def test_weights_that_an_older_build_fitted_know_no_collaborative_source(settings: Settings) -> None:
    folder = settings.data / "weights"
    folder.mkdir(parents=True)
    (folder / "movies.tiny.yaml").write_text("weights: {similar: 0.5, context: 1, query: 1, popular: 1, model: 0.2}\n")
    assert settings.fitted()["movies.tiny"].sources["collaborative"] == 0
