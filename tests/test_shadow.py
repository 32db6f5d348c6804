"""A model in the shadow: it ranks what others are shown, and nothing that it does is noticed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.build import Service, build
from service.config import Settings
from service.context import CallContext
from service.errors import ConfigError, ModelUnreachable
from service.jobs.shadow import of_share
from service.llm import Call, ModelAdapter, OutgoingCall, Piece
from service.records import Shadowed
from service.schema import ApiKey, Ranking, RecommendRequest, ShadowRanking
from tests.conftest import FILMS, backwards, letters_of
from tests.scripted import ScriptedLLM
from tests.test_keys import Serve
from tests.test_reload import running

IDS = [str(film["id"]) for film in FILMS]
FOR_U = RecommendRequest(user_id="u", candidates=IDS, top_n=3)
Cast = Callable[..., Any]


def forwards(call: Call) -> str:
    return " ".join(letters_of(call))


class Blocked(ScriptedLLM):
    """`asked`: it was; it answers once somebody lets it `go`."""

    def __init__(self) -> None:
        super().__init__(forwards, alias="far")
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def stream(self, call: Call | OutgoingCall) -> AsyncGenerator[Piece, None]:
        self.asked.set()
        await self.go.wait()
        async for piece in super().stream(call):
            yield piece


@pytest.fixture
async def cast(settings: Settings) -> AsyncIterator[Cast]:
    """`await cast(far, model={…}, share=…)`: `tiny` answers, and `far`, a model or how it answers,
    stands in its shadow; None: it can't be had."""
    made: list[Service] = []

    async def one(
        far: ModelAdapter | Callable[[Call], Any] | None = forwards,
        *,
        model: dict[str, Any] | None = None,
        **shadow: Any,
    ) -> Service:
        tiny = settings.models["tiny"].model_dump()
        models = {"tiny": {**tiny, "weight": 0.9}, "far": {**tiny, "weight": 1.0, **(model or {})}}
        told = {"model": "far", "share": 1, "strategy": "listwise", **shadow}
        llms: dict[str, ModelAdapter] = {"tiny": ScriptedLLM(backwards, alias="tiny")}
        if far is not None:
            llms["far"] = far if isinstance(far, ModelAdapter) else ScriptedLLM(far, alias="far")
        service = await build(settings.changed({"models": models, "shadow": told}), llms=llms)
        made.append(service)
        await service.ingest.items(FILMS)
        await service.ingest.embed_pending()
        await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
        return service

    yield one
    for service in made:
        await service.close()


async def shadowed(service: Service) -> list[Shadowed]:
    """What was kept, once nothing is under way."""
    while service.shadowing._tasks:
        await asyncio.wait_for(asyncio.wait(service.shadowing._tasks), 20)
    return await service.records.shadowed(0, 100)


def counted(service: Service) -> dict[str, float]:
    samples = [
        one
        for metric in service.telemetry.shadow.collect()
        for one in metric.samples
        if one.name.endswith("_total")
    ]
    return {one.labels["outcome"]: one.value for one in samples}


async def test_it_ranks_the_same_for_the_same_person_and_nobody_is_shown_it(cast: Cast) -> None:
    service = await cast()
    parts = [part async for part in await service.recommender.stream(FOR_U)]
    [kept] = await shadowed(service)
    assert {part.model for part in parts if isinstance(part, Ranking)} == {"tiny"}
    assert (kept.who, kept.alias, kept.domain) == ("u", "far", "movies")
    assert kept.shown.model_dump() == parts[-1].model_dump()
    assert (kept.shadow.ranking_id, kept.shadow.model, kept.shadow.strategy) == (
        kept.shown.ranking_id,
        "far",
        "listwise",
    )
    assert kept.shadow.state_version == kept.shown.state_version > 0
    assert all(item.reason is None for item in kept.shadow.items)
    assert counted(service) == {"ranked": 1}


async def test_it_is_kept_with_what_it_would_have_shown_and_where_it_places_what_was_shown(
    cast: Cast,
) -> None:
    service = await cast()
    whole = await service.recommender.recommend(
        FOR_U.model_copy(update={"top_n": 8, "model": "far", "strategy": "listwise"})
    )
    shown = await service.recommender.recommend(FOR_U)
    kept = (await shadowed(service))[-1]
    first, lower = [one.item_id for one in whole.items[:3]], {item.item_id for item in shown.items}
    assert [item.item_id for item in kept.shadow.items] == [
        *first,
        *(i.item_id for i in whole.items[3:] if i.item_id in lower),
    ]
    assert [item.rank for item in kept.shadow.items] == [
        whole_rank(whole, item.item_id) for item in kept.shadow.items
    ]


def whole_rank(ranking: Ranking, item_id: str) -> int:
    return next(item.rank for item in ranking.items if item.item_id == item_id)


async def test_the_answer_is_there_while_the_shadow_still_thinks(cast: Cast) -> None:
    service = await cast(far := Blocked())
    answers = [await service.recommender.recommend(FOR_U) for _ in range(3)]
    await asyncio.wait_for(far.asked.wait(), 20)
    assert [one.degraded for one in answers] == [None] * 3
    assert await service.records.shadowed(0, 9) == []
    far.go.set()
    assert [one.shown.ranking_id for one in await shadowed(service)] == [
        one.ranking_id for one in answers
    ]


async def test_one_that_fails_is_kept_as_the_prior_it_would_have_been(cast: Cast) -> None:
    service = await cast(lambda call: ModelUnreachable("refused"))
    answered = await service.recommender.recommend(FOR_U)
    [kept] = await shadowed(service)
    assert (answered.model, answered.degraded) == ("tiny", None)
    assert (kept.shadow.model, kept.shadow.strategy) == (None, "prior")
    assert kept.shadow.degraded is not None
    assert kept.shadow.degraded.reason == "unreachable"
    assert counted(service) == {"failed": 1}


async def test_one_that_is_no_good_at_it_is_kept_as_what_it_can_do_and_costs_no_other_model(
    cast: Cast,
) -> None:
    service = await cast(lambda call: "prose")
    await service.recommender.recommend(FOR_U)
    [kept] = await shadowed(service)
    assert (kept.shadow.model, kept.shadow.strategy) == ("far", "likelihood")
    assert kept.shadow.degraded is not None
    assert (kept.shadow.degraded.from_, kept.shadow.degraded.reason) == (
        "listwise:far",
        "invalid_output",
    )
    assert counted(service) == {"ranked": 1}


async def test_one_that_hangs_is_given_up_at_its_own_deadline(cast: Cast) -> None:
    service = await cast(Blocked(), deadline_ms=50)
    await service.recommender.recommend(FOR_U)
    [kept] = await shadowed(service)
    assert kept.shadow.degraded is not None
    assert kept.shadow.degraded.reason == "timeout"
    assert counted(service) == {"failed": 1}


async def test_one_that_breaks_or_can_not_be_asked_is_counted_and_leaves_nothing(
    cast: Cast,
) -> None:
    def broken(call: Call) -> str:
        raise RuntimeError("a bug")

    for service in (
        await cast(broken),
        await cast(None, strategy="auto", model={"backend": "local"}),
    ):
        assert (await service.recommender.recommend(FOR_U)).model == "tiny"
        assert await shadowed(service) == []
        assert counted(service) == {"failed": 1}


def test_a_share_is_the_same_rankings_every_time() -> None:
    ids = [f"rk-{n}" for n in range(2_000)]

    def taken(share: float) -> set[str]:
        return {ranking_id for ranking_id in ids if of_share(ranking_id, share)}

    half = taken(0.5)
    assert 900 < len(half) < 1_100
    assert half == taken(0.5)
    assert taken(0.1) < half
    assert (taken(0), taken(1)) == (set(), set(ids))


async def test_what_is_too_much_is_dropped_and_the_rest_comes_in_turn(cast: Cast) -> None:
    service = await cast(far := Blocked(), waiting=2)
    answers = [await service.recommender.recommend(FOR_U) for _ in range(5)]
    await asyncio.wait_for(far.asked.wait(), 20)
    assert (len(far.calls), counted(service)) == (0, {"dropped": 2})
    far.go.set()
    assert [one.shown.ranking_id for one in await shadowed(service)] == [
        one.ranking_id for one in answers[:3]
    ]
    assert counted(service) == {"dropped": 2, "ranked": 3}


async def test_what_is_shown_to_nobody_in_particular_or_leaves_nothing_to_order_has_no_shadow(
    cast: Cast,
) -> None:
    service = await cast()
    await service.recommender.recommend(RecommendRequest(candidates=IDS))
    await service.recommender.recommend(RecommendRequest(user_id="u", candidates=["heat"]))
    visit = await service.recommender.recommend(RecommendRequest(session_id="s", candidates=IDS))
    assert [one.shown.ranking_id for one in await shadowed(service)] == [visit.ranking_id]


async def test_who_may_not_be_shown_to_a_hosted_model_is_not_shown_to_one_in_the_shadow(
    cast: Cast,
) -> None:
    far = ScriptedLLM(forwards, alias="far")
    service = await cast(far, model={"hosted": True})
    await service.ingest.users([{"user_id": "u", "allow_hosted": False}])
    await service.recommender.recommend(FOR_U)
    assert await shadowed(service) == []
    assert (far.calls, counted(service)) == ([], {"not_allowed": 1})


async def test_who_forbids_it_or_is_forgotten_while_it_waits_is_not_shown_either(
    cast: Cast,
) -> None:
    service = await cast(far := Blocked(), model={"hosted": True})
    await service.ingest.events(
        [{"user_id": user, "item_id": "heat", "type": "like"} for user in ("v", "w")]
    )
    for user in ("u", "v", "w"):
        await service.recommender.recommend(FOR_U.model_copy(update={"user_id": user}))
    await asyncio.wait_for(far.asked.wait(), 20)
    await service.ingest.users([{"user_id": "v", "allow_hosted": False}])
    await service.records.forget("w")
    far.go.set()
    assert [one.who for one in await shadowed(service)] == ["u"]
    assert len(far.calls) == 1
    assert counted(service) == {"ranked": 1, "not_allowed": 1, "dropped": 1}


async def test_whoever_is_forgotten_leaves_no_shadow_also_of_what_is_under_way(cast: Cast) -> None:
    service = await cast(far := Blocked())
    far.go.set()
    await service.recommender.recommend(FOR_U)
    assert len(await shadowed(service)) == 1
    far.go.clear()
    far.asked.clear()
    await service.recommender.recommend(FOR_U)
    await asyncio.wait_for(far.asked.wait(), 20)
    await service.records.forget("u")
    far.go.set()
    assert await shadowed(service) == []
    with service._outside.store._engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM shadows").scalar() == 0


async def test_an_export_holds_the_persons_own_shadows(cast: Cast) -> None:
    service = await cast()
    await service.ingest.events([{"user_id": "v", "item_id": "heat", "type": "like"}])
    for who in ("u", "v", "u"):
        await service.recommender.recommend(FOR_U.model_copy(update={"user_id": who}))
    mine = [one for one in await shadowed(service) if one.who == "u"]
    told = [part async for part in await service.records.export("u")]
    assert [part for part in told if isinstance(part, ShadowRanking)] == [
        ShadowRanking(alias="far", ranking=one.shadow) for one in mine
    ]
    assert len(mine) == 2


async def test_it_is_on_no_callers_account_and_within_its_models_budget(cast: Cast) -> None:
    service = await cast(model={"price": {"input": 1_000_000, "output": 0}, "budget": 1})
    payer = ApiKey(key_id="k", name="shop", scopes=("read",), budget=1)
    answers = [await service.recommender.recommend(FOR_U, CallContext(payer)) for _ in range(2)]
    first, second = await shadowed(service)
    assert [one.usage.cost for one in answers] == [None, None]
    assert (first.shadow.usage.cost or 0) > 1
    assert second.shadow.degraded is not None
    assert second.shadow.degraded.reason == "budget"
    spent = service._outside.store.spendings.spent
    assert await spent(datetime.now(UTC), key_id="k") == 0
    assert await spent(datetime.now(UTC), alias="far") == first.shadow.usage.cost


async def test_a_hosted_one_is_probed_while_it_has_work(cast: Cast) -> None:
    far = Blocked()
    service = await cast(far, model={"hosted": True})
    work = asyncio.create_task(service.jobs.run())
    await asyncio.wait_for(far.asked.wait(), 20)
    work.cancel()
    await asyncio.wait([work])


async def test_closing_waits_for_no_shadow(cast: Cast) -> None:
    service = await cast(far := Blocked())
    for _ in range(3):
        await service.recommender.recommend(FOR_U)
    await asyncio.wait_for(far.asked.wait(), 20)
    await asyncio.wait_for(service.close(), 5)
    assert counted(service) == {"dropped": 3}


async def test_pages_follow_each_other_and_begin_when_asked(cast: Cast) -> None:
    service = await cast()
    ids = [(await service.recommender.recommend(FOR_U)).ranking_id for _ in range(3)]
    every = await shadowed(service)
    first = await service.records.shadowed(0, 2)
    rest = await service.records.shadowed(first[-1].seq, 2)
    assert [one.shown.ranking_id for one in [*first, *rest]] == ids
    assert await service.records.shadowed(0, 9, every[1].shown_at) == every[1:]
    assert await service.records.shadowed(0, 9, datetime.now(UTC) + timedelta(days=1)) == []


async def test_a_reload_switches_it_on_and_a_wrong_one_changes_nothing(
    tmp_path: Path, serve: Serve
) -> None:
    async with running(tmp_path, serve) as service:
        await service.ask()
        service.write(shadow={"model": "ghost"})
        answer = await service.reload()
        assert (answer.status_code, "shadow.model names 'ghost'" in answer.text) == (422, True)
        service.write(shadow={"model": "far", "share": 1})
        assert (await service.reload()).json()["changed"] == ["shadow.model", "shadow.share"]
        assert service.hosted.asked["rank"] == []
        assert (await service.ask()).model == "tiny"
        await asyncio.wait_for(service.hosted.heard["rank"].wait(), 20)


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ({"model": "ghost"}, r"shadow\.model names 'ghost'"),
        (
            {"model": "near", "strategy": "listwise"},
            r"shadow\.model names 'near', whose backend local",
        ),
        ({"share": 1.5}, r"shadow\.share"),
        ({"at_once": 0}, r"shadow\.at_once"),
        ({"strategy": "prior"}, r"shadow\.strategy"),
        ({"strategy": "magic"}, r"shadow\.strategy"),
        ({"percent": 10}, r"shadow\.percent: no such setting"),
    ],
)
def test_a_mistake_in_its_settings_is_named(
    settings: Settings, told: dict[str, Any], names: str
) -> None:
    models = {"near": {"backend": "local", "model": "near"}}
    with pytest.raises(ConfigError, match=names):
        settings.changed({"models": models, "shadow": told})
    assert settings.changed({"models": models, "shadow": {"model": "near"}}).shadow.model == "near"
