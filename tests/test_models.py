"""Fallback, cool-down, cost and budgets, as every face meets them."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.build import Service, build
from service.config import HOUSE, Settings
from service.context import CallContext
from service.errors import (
    InvalidOutput,
    ModelError,
    ModelOverBudget,
    ModelOverloaded,
    ModelUnreachable,
)
from service.llm import Call, ModelAdapter, OutgoingCall, Piece
from service.models.meters import CircuitBreaker
from service.schema import FASTER, PRIOR, ApiKey, Price, Ranking, RecommendRequest, Usage
from tests.conftest import FILMS, backwards, for_a_reason, metered
from tests.scripted import ScriptedLLM

IDS = [str(film["id"]) for film in FILMS]
FOR_ALL = RecommendRequest(user_id="u", candidates=IDS, explain="none")
Two = Callable[..., Any]


@pytest.fixture
async def two(settings: Settings) -> AsyncIterator[Two]:
    """`await two(first, second, **of_the_first)`: `tiny`, and `other` to fall back on, told how to
    answer."""
    made: list[Service] = []

    async def one(
        first: Callable[[Call], str | ModelError],
        second: Callable[[Call], str | ModelError] = backwards,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        other: dict[str, Any] | None = None,
        **tiny: Any,
    ) -> tuple[Service, ScriptedLLM, ScriptedLLM]:
        models = {
            "tiny": {"weight": 0.9, **tiny},
            "other": {**settings.models["tiny"].model_dump(), "weight": 0.9, **(other or {})},
        }
        changed = settings.changed({"models": models, "fallback": ["other"]})
        llms = ScriptedLLM(first, alias="tiny"), ScriptedLLM(second, alias="other")
        asked: dict[str, ModelAdapter] = {llm.alias: llm for llm in llms}
        service = await build(changed, llms=asked, clock=clock)
        made.append(service)
        await service.ingest.items(FILMS)
        await service.ingest.embed_pending()
        await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
        return service, *llms

    yield one
    for service in made:
        await service.close()


def whole(ranking: Ranking) -> bool:
    return sorted(item.item_id for item in ranking.items) == sorted(IDS)


def tried(ranking: Ranking) -> list[tuple[str, str]]:
    assert ranking.choice is not None
    return [(one.strategy, one.reason) for one in ranking.choice.tried]


def test_a_model_rests_after_failures_in_a_row_and_is_tried_again() -> None:
    now = 100.0
    rest = CircuitBreaker(2, 10, clock=lambda: now)
    rest.failed(ModelOverloaded("HTTP 503"))
    rest.succeeded()
    rest.failed(ModelOverloaded("HTTP 503"))
    rest.check()
    rest.failed(ModelUnreachable("refused"))
    with pytest.raises(ModelUnreachable, match=r"not asked for 10 s more, after: refused"):
        rest.check()
    now = 110.0
    rest.check()
    assert not rest.open
    rest.failed(ModelUnreachable("refused"))
    assert rest.open


def test_what_a_server_says_of_its_rest_is_kept_at_once_and_nonsense_tires_nobody() -> None:
    now = 100.0
    rest = CircuitBreaker(3, 10, clock=lambda: now)
    for _ in range(9):
        rest.failed(InvalidOutput("prose"))
    rest.check()
    rest.failed(ModelOverloaded("HTTP 429", rest_s=30))
    now = 129.0
    with pytest.raises(ModelOverloaded):
        rest.check()


async def test_the_next_model_answers_and_the_chain_is_told(two: Two) -> None:
    service, *_ = await two(lambda _: ModelOverloaded("HTTP 503"))
    ranking = await service.recommender.recommend(FOR_ALL)
    assert whole(ranking)
    assert (ranking.strategy, ranking.model) == ("listwise", "other")
    assert ranking.degraded is not None
    assert (ranking.degraded.from_, ranking.degraded.to, ranking.degraded.reason) == (
        "listwise:tiny",
        "listwise:other",
        "overload",
    )
    assert tried(ranking) == [("listwise:tiny", "overload")]


async def test_a_resting_model_is_not_asked(two: Two) -> None:
    service, tiny, other = await two(
        lambda _: ModelUnreachable("refused"), failures=2, cool_down_s=60
    )
    for _ in range(4):
        ranking = await service.recommender.recommend(FOR_ALL)
        assert (whole(ranking), ranking.model) == (True, "other")
        assert ranking.degraded is not None
        assert ranking.degraded.reason == "unreachable"
    assert (len(tiny.calls), len(other.calls)) == (2, 4)


async def test_after_its_rest_it_is_asked_again(two: Two) -> None:
    down = True
    service, *_ = await two(
        lambda call: ModelUnreachable("refused") if down else backwards(call),
        failures=1,
        cool_down_s=0.05,
    )
    assert (await service.recommender.recommend(FOR_ALL)).model == "other"
    down = False
    async with asyncio.timeout(5):
        while service.models.writers["tiny"].resting:
            await asyncio.to_thread(lambda: None)
    assert (await service.recommender.recommend(FOR_ALL)).model == "tiny"
    assert (await service.recommender.recommend(FOR_ALL)).degraded is None


async def test_reasons_are_written_by_one_that_is_not_resting(two: Two) -> None:
    service, tiny, other = await two(
        lambda _: ModelUnreachable("refused"), failures=1, cool_down_s=60
    )
    await service.recommender.recommend(FOR_ALL.model_copy(update={"explain": "short"}))
    assert len(tiny.calls) == 1
    assert any(for_a_reason(call) for call in other.calls)


async def test_a_person_whom_no_hosted_model_may_see_is_served_by_the_local_one(two: Two) -> None:
    service, tiny, _ = await two(backwards, hosted=True)
    await service.ingest.users([{"user_id": "u", "allow_hosted": False}])
    ranking = await service.recommender.recommend(FOR_ALL.model_copy(update={"explain": "short"}))
    assert (whole(ranking), ranking.model, tiny.calls) == (True, "other", [])
    assert tried(ranking) == [("listwise:tiny", "not_allowed")]


PRICE = {"input": 1, "output": 10, "cached": 0.5}


def test_a_price_counts_what_was_read_written_and_cached() -> None:
    used = Usage(prompt_tokens=1_000, completion_tokens=100, cached_tokens=400)
    assert Price(input=1, output=10, cached=0.5).of(used) == pytest.approx(
        (600 + 200 + 1_000) / 1e6
    )
    assert Price(input=1, output=10).of(used) == pytest.approx((1_000 + 1_000) / 1e6)


async def test_an_answer_says_what_it_cost_with_what_failed_before(two: Two) -> None:
    service, tiny, other = await two(
        lambda _: "I would rather talk about poems.", price=PRICE, other={"price": PRICE}
    )
    ranking = await service.recommender.recommend(FOR_ALL)
    assert (ranking.model, ranking.degraded is not None and ranking.degraded.reason) == (
        "other",
        "invalid_output",
    )
    words = [
        sum(len(message["content"].split()) for message in llm.calls[0].messages)
        for llm in (tiny, other)
    ]
    assert ranking.usage.cost == pytest.approx((sum(words) + 10 * (6 + 8)) / 1e6)
    told = (await service.diagnostics.metrics()).decode()
    assert 'whyrank_cost_dollars_total{model="tiny"}' in told
    assert 'whyrank_tokens_total{kind="prompt",model="other"}' in told
    free = await (await two(backwards))[0].recommender.recommend(FOR_ALL)
    assert free.usage.cost is None


async def test_a_spent_budget_sends_everybody_to_the_next_model_until_tomorrow(two: Two) -> None:
    now = datetime(2026, 5, 1, 23, 59, tzinfo=UTC)
    service, *_ = await two(backwards, clock=lambda: now, price=PRICE, budget=1e-9)
    await service.ingest.events(
        [{"user_id": "u", "item_id": "heat", "type": "like", "occurred_at": "2026-04-30T00:00:00Z"}]
    )
    assert (await service.recommender.recommend(FOR_ALL)).model == "tiny"
    ranking = await service.recommender.recommend(FOR_ALL)
    assert (whole(ranking), ranking.model) == (True, "other")
    assert ranking.degraded is not None
    assert ranking.degraded.reason == "budget"
    now += timedelta(minutes=2)
    assert (await service.recommender.recommend(FOR_ALL)).model == "tiny"


async def test_a_key_spends_its_own_money(two: Two) -> None:
    service, *_ = await two(backwards, price=PRICE, other={"price": PRICE})
    poor, rich = (
        ApiKey(name="poor", scopes=("read",), budget=1e-9),
        ApiKey(name="rich", scopes=("read",), budget=1),
    )
    found = [
        await service.recommender.recommend(FOR_ALL, CallContext(key)) for key in (poor, poor, rich)
    ]
    assert [ranking.strategy for ranking in found] == ["listwise", "prior", "listwise"]
    assert found[1].degraded is not None
    assert (found[1].degraded.reason, whole(found[1])) == ("budget", True)


async def test_a_call_that_is_broken_off_is_paid_as_far_as_it_went(two: Two) -> None:
    service, _, _ = await two(lambda _: "A\n" * 100, price=PRICE)
    context = CallContext()
    call = Call([{"role": "user", "content": "x" * 300}], 100, context=context)
    async with aclosing(service.models.writers["tiny"].stream(call)) as pieces:
        await anext(pieces)
    bill = context.usages
    assert bill[0].prompt_tokens == 100
    assert bill[0].cost
    assert (
        await service._outside.store.spendings.spent(datetime.now(UTC), alias="tiny")
        == bill[0].cost
    )


async def test_readiness_costs_nothing(two: Two) -> None:
    service, tiny, _ = await two(backwards, price=PRICE)
    parts = await service.diagnostics.readiness()
    assert (parts["model:rank"]["ok"], tiny.calls) == (False, [])
    assert "whyrank models probe tiny" in parts["model:rank"]["why"]
    await service.models.probe("tiny")
    asked = len(tiny.calls)
    assert (await service.diagnostics.readiness())["model:rank"]["ok"]
    assert len(tiny.calls) == asked


async def test_whoever_has_a_budget_is_not_served_by_a_model_of_unknown_price(two: Two) -> None:
    service, *_ = await two(backwards, backend="litellm", budget=5)
    assert (await service.recommender.recommend(FOR_ALL)).model == "tiny"
    ranking = await service.recommender.recommend(FOR_ALL)
    assert (ranking.model, tried(ranking)) == ("other", [("listwise:tiny", "budget")])
    free, *_ = await two(backwards, backend="litellm")
    for key, model in (
        (ApiKey(name="k", scopes=("read",)), "tiny"),
        (ApiKey(name="b", scopes=("read",), budget=5), "other"),
    ):
        await free.recommender.recommend(FOR_ALL, CallContext(key))
        assert (await free.recommender.recommend(FOR_ALL, CallContext(key))).model == model


async def test_an_answer_outlives_the_loss_of_its_bill(two: Two, settings: Settings) -> None:
    service, *_ = await two(backwards, price=PRICE, budget=5)
    with sqlite3.connect(settings.store_url.removeprefix("sqlite:///")) as other:
        other.execute("DROP TABLE spendings")
        other.execute(
            "CREATE VIEW spendings AS SELECT '' AS day, '' AS alias, '' AS key_id, 0.0 AS "
            "dollars, 0 AS calls"
        )
    assert (await service.recommender.recommend(FOR_ALL)).model == "tiny"
    assert tried(await service.recommender.recommend(FOR_ALL)) == [("listwise:tiny", "budget")]


async def test_what_cannot_be_read_counts_as_spent(two: Two, settings: Settings) -> None:
    service, tiny, _ = await two(backwards, price=PRICE, budget=5)
    with sqlite3.connect(settings.store_url.removeprefix("sqlite:///")) as other:
        other.execute("DROP TABLE spendings")
    assert tried(await service.recommender.recommend(FOR_ALL)) == [("listwise:tiny", "budget")]
    assert tiny.calls == []


class Chatty(ScriptedLLM):
    """Tells with every piece what it has used so far."""

    async def stream(self, call: Call | OutgoingCall) -> AsyncGenerator[Piece, None]:
        async for piece in super().stream(call):
            yield (
                piece
                if piece.usage
                else replace(piece, usage=Usage(prompt_tokens=7, total_tokens=7))
            )


async def test_what_is_told_again_and_again_is_paid_once() -> None:
    chatty = metered(Chatty(lambda _: "A\nB\nC\n", alias="tiny"))
    call = Call([{"role": "user", "content": "one two"}], 9, context=CallContext())
    used = [piece.usage async for piece in chatty.stream(call) if piece.usage]
    bill = call.context.usages
    assert [(usage.prompt_tokens, usage.completion_tokens) for usage in bill] == [(2, 3)]
    assert used == bill


async def test_probes_are_paid_too(two: Two) -> None:
    service, *_ = await two(backwards, price=PRICE, budget=5)
    await service.models.probe("tiny")
    assert await service._outside.store.spendings.spent(datetime.now(UTC), alias="tiny") > 0
    broke, *_ = await two(backwards, price=PRICE, budget=0)
    with pytest.raises(ModelOverBudget):
        await broke.models.probe("tiny", anew=True)


async def test_reasons_that_break_off_are_on_the_bill(two: Two) -> None:
    def endless(call: Call) -> str:
        return "A [f1] is\n" if for_a_reason(call) else backwards(call)

    service, tiny, _ = await two(endless, price=PRICE)
    ranking = await service.recommender.recommend(FOR_ALL.model_copy(update={"explain": "short"}))
    spent = await service._outside.store.spendings.spent(datetime.now(UTC), alias="tiny")
    assert len(tiny.calls) == 17  # the ranking, and twice for each of those shown
    assert ranking.usage.cost == pytest.approx(spent)


@pytest.mark.parametrize("name", ["cpu", "gpu", "hosted", "llamacpp"])
@pytest.mark.parametrize("model", ["whyrank", FASTER, PRIOR])
async def test_every_model_that_is_advertised_answers_under_every_configuration(
    name: str, model: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    shipped = Settings.load(HOUSE / "configs" / f"{name}.yaml")
    here = {"data": str(settings.data)}
    service = await build(shipped.changed(here), llms={}, scorers={})
    await service.ingest.items(FILMS)
    assert whole(await service.recommender.recommend(FOR_ALL.model_copy(update={"model": model})))
    await service.close()
