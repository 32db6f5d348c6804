import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from service.build import Service
from service.cli import app
from service.config import HOUSE, Settings
from service.errors import ModelError
from service.llm import Call
from service.llm.openai import VLLM
from service.llm.probe import Probes
from service.models.meters import LatencyEstimator
from service.schema import RecommendRequest, Usage
from tests.conftest import Make, backwards, metered
from tests.fake_openai import FakeOpenAI, Manner
from tests.scripted import ScriptedLLM

Serve = Callable[[Any], Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def of(serve: Serve, tmp_path: Path) -> AsyncIterator[Callable[[FakeOpenAI], Any]]:
    """`await of(fake)`: the abilities of a fake server's model, found out over a socket."""
    opened: list[VLLM] = []

    async def one(fake: FakeOpenAI) -> Probes:
        llm = VLLM("fake", model="fake", base_url=f"{await serve(fake.app)}/v1")
        opened.append(llm)
        return Probes(
            tmp_path / "capabilities", {"fake": metered(llm)}, {"fake": "vllm"}, lambda: NOW
        )

    yield one
    for llm in opened:
        await llm.close()


FOUND: dict[Manner, dict[str, Any]] = {
    "obeys": {
        "grammar": True,
        "json_schema": "enforced",
        "token_logprobs": True,
        "top_logprobs": 128,
        "prompt_logprobs": True,
        "cached_tokens": True,
    },
    "ignores": {
        "grammar": False,
        "json_schema": "accepted",
        "token_logprobs": False,
        "top_logprobs": 128,
        "prompt_logprobs": False,
        "cached_tokens": False,
    },
    "refuses": {
        "grammar": False,
        "json_schema": "enforced",
        "token_logprobs": False,
        "top_logprobs": 0,
        "prompt_logprobs": False,
    },
    "fails": {
        "grammar": False,
        "json_schema": "accepted",
        "token_logprobs": False,
        "prompt_logprobs": False,
    },
    "no_logprobs": {
        "grammar": True,
        "token_logprobs": False,
        "top_logprobs": 0,
        "prompt_logprobs": False,
    },
    "plain_logprobs": {"grammar": False, "token_logprobs": False, "top_logprobs": 20},
}


@pytest.mark.parametrize("manner", FOUND)
async def test_a_server_is_known_by_what_it_does(
    of: Callable[[FakeOpenAI], Any], manner: Manner
) -> None:
    found = await (await of(FakeOpenAI(manner))).of("fake", seconds=10)
    assert found.model_dump() | FOUND[manner] == found.model_dump()
    assert (found.context, found.at) == (1_000, NOW)
    assert found.read_tps > 0


async def test_plain_log_probabilities_are_not_asked_of_a_server_that_takes_token_ids(
    of: Callable[[FakeOpenAI], Any],
) -> None:
    fake = FakeOpenAI("obeys")
    await (await of(fake)).of("fake", seconds=10)
    assert not [body for body in fake.asked if "top_logprobs" in body]


@pytest.mark.parametrize(("manner", "code"), [("hangs", "timeout"), ("garbage", "invalid_output")])
async def test_a_server_that_answers_nothing_sensible_is_no_model(
    of: Callable[[FakeOpenAI], Any], manner: Manner, code: str
) -> None:
    probes = await of(FakeOpenAI(manner))
    with pytest.raises(ModelError) as raised:
        await probes.of("fake", seconds=0.3)
    assert raised.value.code == code
    assert probes.known == {}


async def test_a_model_is_asked_once_and_again_after_a_change(
    of: Callable[[FakeOpenAI], Any], tmp_path: Path
) -> None:
    fake = FakeOpenAI("obeys")
    probes = await of(fake)
    await asyncio.gather(*(probes.of("fake", seconds=10) for _ in range(3)))
    asked = len(fake.asked)
    fake.manner = "ignores"
    restarted = await of(fake)
    assert (await restarted.of("fake", seconds=10)).grammar
    assert len(fake.asked) == asked
    fake.version = "2"
    assert not (await restarted.of("fake", seconds=10)).grammar
    fake.manner = "obeys"
    assert (await restarted.of("fake", seconds=10, anew=True)).grammar
    for damage in (
        b"",
        b'{"fingerprint": 3',
        b"\xff\xfe",
        b'{"fingerprint": "x", "capabilities": {}}',
    ):
        (tmp_path / "capabilities" / "fake.json").write_bytes(damage)
        asked = len(fake.asked)
        assert (await (await of(fake)).of("fake", seconds=10)).grammar
        assert len(fake.asked) > asked


async def test_capabilities_that_cannot_be_read_or_written_name_their_file(
    serve: Serve, tmp_path: Path
) -> None:
    folder, told = tmp_path / "capabilities", list[str]()
    folder.mkdir()
    (folder / "fake.json").write_bytes(b"{")
    model = VLLM("fake", model="fake", base_url=f"{await serve(FakeOpenAI('obeys').app)}/v1")
    probes = Probes(
        folder, {"fake": metered(model)}, {}, lambda: datetime.now(UTC), failed=told.append
    )
    assert (await probes.of("fake", seconds=10)).grammar
    assert [f"{folder / 'fake.json'}: no capabilities of a model" in one for one in told] == [True]
    (folder / "fake.json").unlink()
    folder.rmdir()
    folder.touch()
    assert (await probes.of("fake", seconds=10, anew=True)).grammar
    assert f"{folder / 'fake.json'}: can't be written" in told[-1]
    await model.close()


def reader(call: Call) -> str:
    """Follows schemas, no grammars."""
    return json.dumps(dict.fromkeys("ABCDEFGHIJ", 5)) if call.schema else backwards(call)


def ask(**fields: Any) -> RecommendRequest:
    return RecommendRequest.model_validate({"user_id": "u", "explain": "none", **fields})


async def test_a_strategy_that_its_model_cannot_do_is_replaced_openly(
    make: Make, settings: Settings
) -> None:
    cheap = settings.changed({"rank": {"prefer": ["first_token", "listwise", "keyed"]}})
    service: Service = await make(llm=ScriptedLLM(reader, alias="tiny", obeys=False), changed=cheap)
    await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
    unknown = await service.recommender.recommend(ask(strategy="listwise"))
    assert (unknown.strategy, unknown.degraded) == ("listwise", None)
    await service.models.probe("tiny")
    named = await service.recommender.recommend(ask(strategy="first_token"))
    assert named.degraded is not None
    assert (named.degraded.from_, named.degraded.to, named.degraded.reason) == (
        "first_token:tiny",
        "prior",
        "no_capability",
    )
    auto = await service.recommender.recommend(
        ask(strategy="auto")
    )  # no grammar: scores before a list
    assert (auto.strategy, auto.degraded) == ("keyed", None)


async def test_a_model_that_can_do_nothing_asked_of_it_is_not_passed_over_in_silence(
    make: Make, settings: Settings
) -> None:
    only = settings.changed({"rank": {"strategy": "auto", "prefer": ["first_token"]}})
    service: Service = await make(llm=ScriptedLLM(reader, alias="tiny", obeys=False), changed=only)
    await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
    await service.models.probe("tiny")
    ranking = await service.recommender.recommend(ask())
    assert ranking.strategy == "prior"
    assert ranking.degraded is not None
    assert ranking.degraded.reason == "no_capability"
    part = (await service.diagnostics.readiness())["model:rank"]
    assert (part["ok"], part["capabilities"]["token_logprobs"]) == (False, False)
    assert "no_capability" in part["why"]


async def test_the_background_probes_and_the_first_request_has_an_estimate(
    make: Make, settings: Settings, serve: Serve
) -> None:
    fake = FakeOpenAI("ignores")
    llm = VLLM("tiny", model="fake", base_url=f"{await serve(fake.app)}/v1")
    service: Service = await make(llm=llm)
    await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
    work = asyncio.create_task(service.jobs.run())
    try:
        async with asyncio.timeout(20):
            while not (settings.data / "capabilities" / "tiny.json").exists():
                assert not work.done()
                await asyncio.sleep(0.02)
    finally:
        work.cancel()
        await asyncio.wait([work])
    ranking = await service.recommender.recommend(ask(strategy="keyed"))
    assert ranking.choice is not None
    assert ranking.degraded is not None  # it greets where scores are asked for
    lacking = (await service.recommender.recommend(ask(strategy="first_token"))).degraded
    assert lacking is not None
    assert lacking.reason == "no_capability"


def test_a_rate_told_is_relied_on_for_a_while_from_its_first_use() -> None:
    now = [0.0]
    pace = LatencyEstimator(lambda: now[0])
    pace.seed("m", 100, 10)
    now[0] = 10_000
    work = Usage(prompt_tokens=200, completion_tokens=10)
    assert pace.seconds("m", work) == pytest.approx(3)
    now[0] += 1_000
    assert pace.seconds("m", work) is None
    pace.record_answer("m", Usage(prompt_tokens=100, completion_tokens=10), 0.5, 1.5)
    pace.seed("m", 1, 1)
    assert pace.seconds("m", work) == pytest.approx(2)


def test_a_prompt_that_was_cached_says_little_about_how_fast_a_model_reads() -> None:
    pace, work = LatencyEstimator(lambda: 0.0), Usage(prompt_tokens=1_000)
    pace.record_answer("m", Usage(prompt_tokens=1_000, completion_tokens=1), 1, 1)
    pace.record_answer(
        "m", Usage(prompt_tokens=1_000, cached_tokens=992, completion_tokens=1), 0.5, 0.5
    )
    assert pace.seconds("m", work) == pytest.approx(1)


async def test_the_command_shows_what_was_found(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeOpenAI("ignores")
    models = {
        "tiny": {"backend": "vllm", "model": "fake", "base_url": f"{await serve(fake.app)}/v1"},
        "gone": {"backend": "vllm", "model": "fake", "base_url": "http://127.0.0.1:9/v1"},
    }
    settings = yaml.safe_load((HOUSE / "configs" / "test.yaml").read_text()) | {"models": models}
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path / "data"))

    async def run(*words: str) -> Result:
        line = ["--config", str(tmp_path / "here.yaml"), "models", "probe", *words]
        return await asyncio.to_thread(CliRunner().invoke, app, line)

    found = await run()
    assert found.exit_code == 0, found.output
    assert re.search(r"a grammar is obeyed\W+no\W", found.output)
    assert re.search(r"a JSON schema is\W+accepted\W", found.output)
    gone = await run("gone")
    assert gone.exit_code == 1
    assert "unreachable" in gone.output
    assert (await run("huge")).exit_code == 2
