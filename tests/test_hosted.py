"""Models behind somebody else's server: by the openai client alone, and through LiteLLM."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from service.build import Service, build
from service.config import HOUSE, Model, Settings
from service.errors import ConfigError, InvalidOutput, ModelIncapable, ModelOverloaded, NotFound
from service.llm import Call, ModelAdapter, OutgoingCall
from service.llm.hosted import Hosted
from service.llm.openai import Compatible
from service.llm.thinking import Thoughts, answer_of
from service.privacy import Outgoing
from service.rank.listwise import letters
from service.schema import RecommendRequest, Repairs, Usage
from tests.conftest import FILMS
from tests.fake_openai import FakeOpenAI, Manner

KEY = "sk-a-key-nobody-may-see"
BACKENDS = {
    "openai": {"backend": "openai", "model": "fake"},
    "litellm": {"backend": "litellm", "model": "hosted_vllm/fake"},
    "litellm-openai": {"backend": "litellm", "model": "openai/fake"},
}
Serve = Callable[[Any], Any]
Asking = Callable[..., Any]


@pytest.fixture
async def asking(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Asking]:
    """`await asking("openai", fake)`: a service on real parts whose model is behind this fake
    server."""
    monkeypatch.setenv("FAKE_KEY", KEY)
    made: list[Service] = []

    async def one(backend: str, fake: FakeOpenAI, **more: Any) -> Service:
        model = BACKENDS[backend] | {
            "base_url": f"{await serve(fake.app)}/v1",
            "api_key_env": "FAKE_KEY",
            "weight": 1.0,
        }
        service = await build(
            settings.changed({"models": {"tiny": model | more}, "rank": {"clear_prior": 100}})
        )
        made.append(service)
        await service.ingest.items(FILMS)
        await service.ingest.embed_pending()
        await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
        return service

    yield one
    for service in made:
        await service.close()


def ask(**fields: Any) -> RecommendRequest:
    films = [str(film["id"]) for film in FILMS]
    return RecommendRequest.model_validate(
        {"user_id": "u", "candidates": films, "explain": "none", **fields}
    )


ANSWERED: dict[Manner, tuple[str, str | None, Repairs]] = {
    "ranks": ("keyed", None, Repairs()),
    "slow": ("keyed", None, Repairs()),
    "thinks": ("keyed", None, Repairs()),
    "schemaless": ("keyed", None, Repairs()),
    "sloppy": ("keyed", None, Repairs(missing=1, unknown=1)),
    "prose": ("listwise", "invalid_output", Repairs()),
    "foreign": ("prior", "invalid_output", Repairs()),
    "endless": ("prior", "invalid_output", Repairs()),
    "filters": ("prior", "invalid_output", Repairs()),
    "cuts": ("prior", "unreachable", Repairs()),
    "broken": ("prior", "unreachable", Repairs()),
    "busy": ("prior", "overload", Repairs()),
    "locked": ("prior", "no_capability", Repairs()),
    "hangs": ("prior", "timeout", Repairs()),
    "stalls": ("prior", "timeout", Repairs()),
}


@pytest.mark.parametrize("manner", ANSWERED)
@pytest.mark.parametrize("backend", BACKENDS)
async def test_whatever_a_server_does_the_ranking_is_whole_and_in_time(
    asking: Asking, backend: str, manner: Manner
) -> None:
    fake = FakeOpenAI(manner)
    service = await asking(backend, fake)
    prior = [
        item.item_id for item in (await service.recommender.recommend(ask(strategy="prior"))).items
    ]
    if backend != "openai":  # the first use imports
        await service.models.why_unusable("tiny", 0.1 if manner in {"hangs", "stalls"} else 30)
    deadline = 1.5 if manner in {"hangs", "stalls"} else 30
    start = time.perf_counter()
    ranking = await service.recommender.recommend(
        ask(strategy="keyed", deadline_ms=int(1000 * deadline))
    )
    assert time.perf_counter() - start < deadline
    strategy, reason, repairs = ANSWERED[manner]
    assert (ranking.strategy, ranking.degraded.reason if ranking.degraded else None) == (
        strategy,
        reason,
    )
    assert ranking.repairs == repairs
    found = [item.item_id for item in ranking.items]
    assert sorted(found) == sorted(prior)
    assert [item.score for item in ranking.items] == sorted(
        {item.score for item in ranking.items}, reverse=True
    )
    if strategy == "prior":
        assert found == prior
    elif manner != "sloppy":
        assert found == prior[::-1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("manner", ["ranks", "schemaless", "prose", "thinks"])
async def test_a_list_is_had_without_a_grammar(
    asking: Asking, backend: str, manner: Manner
) -> None:
    fake = FakeOpenAI(manner)
    service = await asking(backend, fake)
    prior = [
        item.item_id for item in (await service.recommender.recommend(ask(strategy="prior"))).items
    ]
    ranking = await service.recommender.recommend(ask(strategy="listwise"))
    assert (ranking.strategy, ranking.degraded, ranking.repairs) == ("listwise", None, Repairs())
    assert [item.item_id for item in ranking.items] == prior[::-1]
    assert not [body for body in fake.asked if {"structured_outputs", "logprobs"} & set(body)]
    again = len(fake.asked)
    await service.recommender.recommend(ask(strategy="listwise"))
    assert len(fake.asked) == again + 1  # a refused schema isn't sent again


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_probed_model_without_grammars_is_asked_for_scores(
    asking: Asking, backend: str
) -> None:
    fake = FakeOpenAI("obeys")
    service = await asking(backend, fake)
    able = await service.models.probe("tiny")
    assert (able.grammar, able.json_schema, able.token_logprobs, able.prompt_logprobs) == (
        False,
        "enforced",
        False,
        False,
    )
    assert not [
        body for body in fake.asked if {"structured_outputs", "logprob_token_ids"} & set(body)
    ]
    fake.manner = "ranks"
    ranking = await service.recommender.recommend(ask(strategy="auto"))
    assert (ranking.strategy, ranking.degraded) == ("keyed", None)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_reasons_of_a_model_without_grammars_pass_the_same_check(
    asking: Asking, backend: str
) -> None:
    service = await asking(backend, FakeOpenAI("ranks"))
    ranking = await service.recommender.recommend(ask(strategy="keyed", explain="short"))
    assert ranking.degraded is None
    told = {item.item_id: item for item in ranking.items}
    assert 'ou liked "Alien"' in (told["solaris"].reason or "")
    assert "his one is also Sci-Fi" in (told["solaris"].reason or "")
    assert (told["solaris"].signals["grounded"], told["solaris"].evidence) == (True, ["alien"])
    assert told["notting"].evidence == []  # they share nothing


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("manner", ["hangs", "stalls"])
async def test_whoever_stops_listening_hangs_up(serve: Serve, backend: str, manner: Manner) -> None:
    fake = FakeOpenAI(manner)
    llm = opened(backend, f"{await serve(fake.app)}/v1")
    await llm.about() if backend != "openai" else None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(heard(llm), 1)
    async with asyncio.timeout(5):
        await fake.hung_up.wait()
    await llm.close()


def opened(backend: str, url: str, **more: Any) -> Compatible | Hosted:
    kind: Any = Compatible if backend == "openai" else Hosted
    found: Compatible | Hosted = kind(
        "m", model=BACKENDS[backend]["model"], base_url=url, api_key=KEY, **more
    )
    return found


async def heard(llm: ModelAdapter) -> Usage:
    call = OutgoingCall.of(Call([{"role": "user", "content": "Hi."}], 5), Outgoing)
    async with aclosing(llm.stream(call)) as pieces:
        return sum([piece.usage async for piece in pieces if piece.usage], Usage())


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_key_stands_in_no_message(serve: Serve, backend: str) -> None:
    fake = FakeOpenAI("locked")
    llm = opened(backend, f"{await serve(fake.app)}/v1")
    with pytest.raises(ModelIncapable) as caught:
        await heard(llm)
    assert "401" in caught.value.message
    assert KEY not in caught.value.message
    await llm.close()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_extra_fields_reach_the_server(serve: Serve, backend: str) -> None:
    fake = FakeOpenAI("obeys")
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 77}
    llm = opened(backend, f"{await serve(fake.app)}/v1", extra=extra)
    for cached in (0, 390):
        usage = await heard(llm)
        assert usage.cached_tokens == cached
    assert {name: fake.asked[-1][name] for name in extra} == extra
    await llm.close()


async def test_litellm_knows_what_its_models_cost_and_which_take_no_temperature(
    serve: Serve,
) -> None:
    fake = FakeOpenAI("ranks")
    told: list[str] = []
    llm = Hosted(
        "m",
        model="gpt-5-mini",
        base_url=f"{await serve(fake.app)}/v1",
        api_key=KEY,
    )
    llm.warn = told.append
    for _ in range(2):
        usage = await heard(llm)
        assert usage.cost == pytest.approx(400 * 0.25e-6 + 10 * 2e-6)
    assert told == ["gpt-5-mini takes no temperature: it is left out"]
    assert [("temperature" in body, body["max_completion_tokens"]) for body in fake.asked] == [
        (False, 5)
    ] * 2
    assert (await llm.about()).context == 272_000


def test_costs_add_up_where_they_are_known() -> None:
    assert (Usage() + Usage()).cost is None
    assert (Usage(cost=0.5) + Usage() + Usage(cost=0.25)).cost == 0.75


# ── what a model thinks ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("plain", "plain"),
        (" \n<think>no</think>\n\nyes", "yes"),
        ("<think>never closed {", ""),
        ("<thinking>a<b</thinking>c<d", "c<d"),
        ("a < b <thi", "a < b <thi"),
        ("one<think>x</think> two<think>y</think>", "one two"),
    ],
)
def test_thoughts_are_no_part_of_an_answer_wherever_a_piece_ends(said: str, answer: str) -> None:
    for size in (1, 2, 3, len(said)):
        thoughts = Thoughts()
        pieces = [
            thoughts.without(said[start : start + size]) for start in range(0, len(said), size)
        ]
        assert "".join([*pieces, thoughts.rest()]) == answer
    assert answer_of('hm {"A": 1}</think>{"A": 9}') == '{"A": 9}'


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ('{"order": ["C", "A", "B"]}', "CAB"),
        ("I think C > A > B is a good order", "CAB"),
        ('Here: ["C", "A", "B"] as I said [1]', "CAB"),
        ('{"order": ["C", "A", "B', "CAB"),
        ('{"order": "C A B"}', "CAB"),
        ("1. C) The Thing\n2. **A**\n3. B", "CAB"),
        ("", ""),
        ("[" * 2_000, ""),
    ],
)
def test_a_list_is_read_as_it_is_meant(said: str, found: str) -> None:
    assert letters(said) == [*found]


# ── configuration ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "leaves"),
    [
        ({"backend": "litellm", "model": "anthropic/claude"}, True),
        ({"backend": "litellm", "model": "ollama/x", "base_url": "http://127.0.0.1:1/v1"}, False),
        ({"backend": "litellm", "model": "anthropic/claude", "hosted": False}, False),
        ({"backend": "openai", "model": "x", "base_url": "https://api.example.com/v1"}, True),
        ({"backend": "openai", "model": "x", "base_url": "http://10.0.0.2:1/v1"}, False),
    ],
)
def test_what_leaves_the_house_is_known(model: dict[str, Any], leaves: bool) -> None:
    assert Model.model_validate(model).leaves_the_house is leaves


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"backend": "openai", "model": "x"}, "base_url"),
        ({"backend": "litellm", "model": "x", "base_url": "ftp://x"}, "base_url"),
        ({"backend": "litellm", "model": "x", "extra": {"api_key": "sk"}}, "extra"),
        ({"backend": "litellm", "model": "x", "price": {"input": -1, "output": 0}}, "price"),
        ({"backend": "litellm", "model": "x", "context": 0}, "context"),
    ],
)
def test_a_model_that_cannot_be_asked_is_refused_by_name(
    settings: Settings, model: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=rf"models\.more\.{told}|models\.more: {told}"):
        settings.changed({"models": {"more": model}})


async def test_a_model_without_its_key_is_left_out_unless_it_has_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY_KEY", "")
    more = {
        "more": {
            "backend": "litellm",
            "model": "anthropic/claude-haiku-4-5",
            "api_key_env": "EMPTY_KEY",
        }
    }
    changed = settings.changed({"models": more})
    with capture_logs() as logs:
        service = await build(changed)
    assert [
        (line["alias"], "EMPTY_KEY" in line["why"])
        for line in logs
        if line["event"] == "model_left_out"
    ] == [("more", True)]
    with pytest.raises(
        NotFound, match=r"known: whyrank, whyrank-fast, whyrank-prior, tiny$"
    ) as caught:
        await service.recommender.recommend(RecommendRequest(model="more"))
    assert caught.value.code == "model_not_found"
    assert "left out" in await service.models.why_unusable("more")
    await service.close()
    for where in ({"roles": {"explain": "more"}}, {"fallback": ["more"]}):
        with pytest.raises(ConfigError, match=r"models\.more\.api_key_env: EMPTY_KEY is not set"):
            await build(changed.changed(where))


def hosted() -> dict[str, Model]:
    return Settings.load(HOUSE / "configs" / "hosted.yaml").models


def test_every_hosted_model_that_is_shipped_is_known_to_litellm_and_has_a_price() -> None:
    import litellm

    file = Path(litellm.__file__).with_name("model_prices_and_context_window_backup.json")
    known = json.loads(file.read_text())
    for alias, model in hosted().items():
        name = model.model if model.model in known else model.model.partition("/")[2]
        assert known[name]["input_cost_per_token"] > 0, alias
        assert known[name]["supports_response_schema"], alias
        assert model.api_key_env, alias
        assert model.leaves_the_house


def test_a_service_with_hosted_models_is_up_before_litellm_is_imported(tmp_path: Path) -> None:
    content = yaml.safe_load((HOUSE / "configs" / "hosted.yaml").read_text())
    content["models"] = {
        alias: model | {"base_url": "http://127.0.0.1:9/v1", "api_key_env": None}
        for alias, model in content["models"].items()
    }
    content |= {"data": str(tmp_path / "data")}
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(content))
    code = f"""
import asyncio, sys, time
start = time.perf_counter()
import service.cli
from service.api import create_app
from service.config import Settings
from service.build import build
settings = Settings.load({str(tmp_path / "here.yaml")!r})
create_app(settings)
service = asyncio.run(build(settings))
print(time.perf_counter() - start, len(service.models.names), "litellm" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE
    )
    took, count, imported = ran.stdout.split()[-3:]
    assert (int(count), imported) == (3 + len(content["models"]), "False")
    assert float(took) < 20  # 3 s on an idle machine; LiteLLM alone takes 5


async def test_a_refusal_is_no_answer(serve: Serve) -> None:
    llm = Compatible("m", model="fake", base_url=f"{await serve(FakeOpenAI('filters').app)}/v1")
    with pytest.raises(InvalidOutput, match="refused"):
        await heard(llm)
    await llm.close()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_busy_server_is_left_alone_for_as_long_as_it_says(
    serve: Serve, backend: str
) -> None:
    llm = opened(backend, f"{await serve(FakeOpenAI('busy').app)}/v1")
    with pytest.raises(ModelOverloaded) as caught:
        await heard(llm)
    assert caught.value.rest_s == 3
    await llm.close()


CHAINS: dict[Manner, tuple[str, int]] = {
    "busy": ("overload", 1),  # it says for how long it wants to be left alone
    "broken": ("unreachable", 2),
    "cuts": ("unreachable", 2),
    "foreign": ("invalid_output", 4),  # it is there, and may answer the next one
    "endless": ("invalid_output", 4),
    "filters": ("invalid_output", 4),
    "locked": (
        "no_capability",
        8,
    ),  # each time once more in words, for the schema may be what is refused
}
"""Why the next model answers, and how often in four rankings the first one is asked before it
rests."""


@pytest.mark.parametrize("manner", CHAINS)
async def test_the_chain_the_rest_and_the_degradation_are_told(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch, manner: Manner
) -> None:
    monkeypatch.setenv("FAKE_KEY", KEY)
    bad, good = FakeOpenAI(manner), FakeOpenAI("ranks")
    model = {
        "backend": "openai",
        "model": "fake",
        "api_key_env": "FAKE_KEY",
        "weight": 1.0,
        "failures": 2,
        "cool_down_s": 60,
    }
    models = {
        "tiny": {**model, "base_url": f"{await serve(bad.app)}/v1"},
        "next": {**model, "base_url": f"{await serve(good.app)}/v1"},
    }
    service = await build(
        settings.changed({"models": models, "fallback": ["next"], "rank": {"clear_prior": 100}})
    )
    await service.ingest.items(FILMS)
    await service.ingest.embed_pending()
    await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
    reason, asked = CHAINS[manner]
    for _ in range(4):
        ranking = await service.recommender.recommend(ask(strategy="keyed", deadline_ms=20_000))
        assert sorted(item.item_id for item in ranking.items) == sorted(
            str(film["id"]) for film in FILMS
        )
        assert (ranking.strategy, ranking.model) == ("keyed", "next")
        assert ranking.choice is not None
        assert [(one.strategy, one.reason) for one in ranking.choice.tried] == [
            ("keyed:tiny", reason)
        ]
        assert ranking.degraded is not None
        assert (ranking.degraded.from_, ranking.degraded.to, ranking.degraded.reason) == (
            "keyed:tiny",
            "keyed:next",
            reason,
        )
    assert len(good.asked) == 4
    assert len(bad.asked) == asked
    await service.close()
