import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.build import build
from service.config import SOURCES, Settings
from service.errors import BadRequest, ModelUnreachable, NotFound
from service.llm import Call, OutgoingCall, Piece
from service.ranker import NO_SHARE
from service.schema import Ranking, Reason, RecommendRequest
from tests.conftest import FILMS, Make, backwards, for_a_reason, truthful
from tests.scripted import ScriptedLLM

NOW = datetime.now(UTC)


def rated(user: str, item: str, value: float = 5, minutes: int = 0) -> dict[str, Any]:
    moment = NOW + timedelta(minutes=minutes - 60)
    return {
        "user_id": user,
        "item_id": item,
        "type": "rating",
        "value": value,
        "occurred_at": moment,
    }


def ask(**fields: Any) -> RecommendRequest:
    return RecommendRequest.model_validate(fields)


async def test_an_event_changes_the_very_next_answer(make: Make) -> None:
    service = await make()
    await service.ingest.events([rated("u", "notting")])
    before = await service.recommender.recommend(ask(user_id="u", strategy="prior"))
    assert before.items[0].item_id in {"amelie", "sunrise"}
    await service.ingest.events([rated("u", "alien", minutes=n) for n in range(3)])
    after = await service.recommender.recommend(ask(user_id="u", strategy="prior"))
    assert "alien" not in [item.item_id for item in after.items]
    assert after.state_version > before.state_version
    assert [item.item_id for item in after.items].index("thing") < [
        item.item_id for item in before.items
    ].index("thing")


def blocks(people: int = 40) -> list[dict[str, Any]]:
    """Half of the people like some of the even films, half of the odd ones."""
    likes = [
        (f"v{n}", f"f{2 * ((7 * n + m * m) % 15) + n % 2}")
        for n in range(people)
        for m in (0, 1, 2, 3, 5)
    ]
    return [
        {"user_id": user, "item_id": item, "type": "like", "occurred_at": NOW - timedelta(days=1)}
        for user, item in likes
    ]


ALIKE = [{"id": f"f{n}", "title": "Film"} for n in range(30)]
"""Films that only those who liked them tell apart."""
TOGETHER = {**dict.fromkeys(SOURCES, 0), "collaborative": 1}


async def test_a_like_changes_the_very_next_choice_of_people_with_the_same_taste(
    make: Make, settings: Any
) -> None:
    service = await make(films=ALIKE, changed=settings.changed({"retrieve": TOGETHER}))
    await service.ingest.events(blocks())
    assert (await service.diagnostics.readiness())["collaborative"] == {
        "ok": True,
        "trained_at": None,
        "events": 0,
        "items": 0,
    }
    await service.ingest.events([rated("u", "f4")])
    nobody = ask(user_id="u", strategy="prior", top_n=8, explain="full")
    assert (
        "source.collaborative" not in (await service.recommender.recommend(nobody)).items[0].signals
    )
    assert await service.jobs.trainer.train() == 30
    even = await service.recommender.recommend(nobody)
    assert {int(item.item_id[1:]) % 2 for item in even.items} == {0}
    assert even.items[0].signals["source.collaborative"] == 1
    assert even.items[0].reason == "Placed by the taste of people who choose like you."
    await service.ingest.events([rated("w", "f7"), rated("stranger", "ghost")])
    odd = await service.recommender.recommend(ask(user_id="w", strategy="prior", top_n=8))
    assert {int(item.item_id[1:]) % 2 for item in odd.items} == {1}
    stranger = await service.recommender.recommend(
        ask(user_id="stranger", strategy="prior", explain="full")
    )
    assert not any("source.collaborative" in item.signals for item in stranger.items)
    ready = (await service.diagnostics.readiness())["collaborative"]
    assert (ready["events"], ready["items"]) == (201, 30)
    assert NOW <= datetime.fromisoformat(ready["trained_at"]) <= datetime.now(UTC)


async def test_another_process_uses_a_training_at_once(make: Make, settings: Any) -> None:
    changed = settings.changed({"retrieve": TOGETHER})
    one, two = await make(films=ALIKE, changed=changed), await make(films=[], changed=changed)
    await one.ingest.events([*blocks(), rated("u", "f4")])
    request = ask(user_id="u", strategy="prior", top_n=8)
    for trainer in (one, two, one):
        await trainer.jobs.trainer.train()
        for other in (one, two):
            ranking = await other.recommender.recommend(request)
            assert {int(item.item_id[1:]) % 2 for item in ranking.items} == {0}


@pytest.mark.parametrize("source", ["collaborative", "item_item", "sequence"])
async def test_an_event_in_one_process_changes_the_next_answer_of_another(
    make: Make, settings: Any, source: str
) -> None:
    """Each source alone; nothing is trained between the event and the answer."""
    only = settings.changed({"retrieve": {**dict.fromkeys(SOURCES, 0), source: 1}})
    one, two = await make(films=ALIKE, changed=only), await make(films=[], changed=only)
    await one.ingest.events(blocks())
    await one.jobs.trainer.train()
    request = ask(user_id="u", strategy="prior", top_n=8, explain="full")
    for event, parity in ((rated("u", "f7"), 1), (rated("u", "f7", 1, minutes=1), None)):
        await one.ingest.events([event])
        ranking = await two.recommender.recommend(request)
        signs = [
            {*item.signals} & {f"source.{source}", f"score.{source}"} for item in ranking.items
        ]
        assert all(len(sign) == (2 if parity else 0) for sign in signs)
        if parity:
            assert {int(item.item_id[1:]) % 2 for item in ranking.items} == {parity}


async def test_the_background_trains_when_the_log_has_grown(make: Make, settings: Any) -> None:
    changed = settings.changed({"retrieve": {**TOGETHER, "training": {"every_s": 0.02}}})
    service = await make(films=ALIKE, changed=changed)
    work = asyncio.create_task(service.jobs.run())

    async def trained_on(events: int) -> None:
        while (await service.diagnostics.readiness())["collaborative"]["events"] != events:
            assert not work.done()
            await asyncio.sleep(0.02)

    try:
        async with asyncio.timeout(20):
            await service.ingest.events(blocks())
            await trained_on(200)
            await service.ingest.events(
                [rated("u", "f4"), *(rated(f"v{n}", "f29") for n in range(29))]
            )
            await trained_on(230)
    finally:
        work.cancel()
        await asyncio.wait([work])
    assert work.cancelled()


async def test_the_model_is_shown_the_person_and_moves_the_order(make: Make) -> None:
    service = await make()
    await service.ingest.events([rated("u", "alien")])
    prior = await service.recommender.recommend(ask(user_id="u", strategy="prior"))
    ranked = await service.recommender.recommend(ask(user_id="u"))
    assert [item.item_id for item in ranked.items] == [
        item.item_id for item in reversed(prior.items)
    ]
    assert (ranked.strategy, ranked.model, ranked.degraded) == ("listwise", "tiny", None)
    assert ranked.prompt is not None
    assert ranked.prompt.id == "movies/rank"
    prompt = (await service.previewer.preview(ask(user_id="u"), "rank")).messages[1]["content"]
    assert 'rated 5 "Alien"' in prompt


async def test_reasons_cite_what_the_person_really_did(make: Make) -> None:
    service = await make()
    await service.ingest.events([rated("u", "alien"), rated("u", "notting", minutes=1)])
    ranking = await service.recommender.recommend(ask(user_id="u"))
    assert all(item.reason for item in ranking.items)
    cited = {one for item in ranking.items for one in item.evidence}
    assert cited
    assert cited <= {"alien", "notting"}


async def test_a_dead_model_is_a_prior_that_says_so(make: Make) -> None:
    service = await make(lambda call: ModelUnreachable("refused"))
    ranking = await service.recommender.recommend(ask(user_id="u", top_n=8))
    assert ranking.strategy == "prior"
    assert ranking.degraded is not None
    assert ranking.degraded.reason == "unreachable"
    assert len({item.item_id for item in ranking.items}) == len(FILMS)


async def test_given_candidates_come_back_exactly_once_in_any_order(make: Make) -> None:
    service = await make()
    given = ["heat", "ghost", "alien", "thing", "nowhere"]
    for candidates in (given, given[::-1]):
        ranking = await service.recommender.recommend(
            ask(user_id="u", candidates=candidates, strategy="prior")
        )
        assert sorted(item.item_id for item in ranking.items) == sorted(given)
        assert [item.item_id for item in ranking.items][-2:] == ["ghost", "nowhere"]
    one, two = [
        [
            item.item_id
            for item in (
                await service.recommender.recommend(ask(candidates=some, strategy="prior"))
            ).items
        ]
        for some in (given, given[::-1])
    ]
    assert one == two


async def test_what_was_bought_comes_again_when_its_time_is_here(
    make: Make, settings: Settings
) -> None:
    again = {
        "service": {"domain": "shop"},
        "events": {"meanings": {"shop": {"purchase": {"repeat_after": 30}}}},
    }
    service = await make(changed=settings.changed(again))
    bought = {"alien": 10, "heat": 40}
    await service.ingest.events(
        [
            {
                "user_id": "u",
                "item_id": item,
                "type": "purchase",
                "occurred_at": NOW - timedelta(days=ago),
            }
            for item, ago in bought.items()
        ]
    )
    shown = await service.recommender.recommend(ask(user_id="u", strategy="prior", top_n=8))
    assert {item.item_id for item in shown.items} == {film["id"] for film in FILMS} - {"alien"}
    assert (await service.previewer.state("u")).seen == {"alien"}
    given = await service.recommender.recommend(
        ask(user_id="u", strategy="prior", candidates=["alien", "heat"])
    )
    assert len(given.items) == 2


@pytest.mark.parametrize(
    "weigh", [{}, {"popularity": 1.0}, {"popularity": -1.0}, {"diversity": 1.0}]
)
async def test_an_unknown_or_deleted_candidate_is_last_without_a_reason_and_named(
    make: Make, settings: Settings, weigh: dict[str, float]
) -> None:
    service = await make(
        changed=settings.changed({"rank": weigh})
    )  # the model would have the last one first
    await service.ingest.events([rated("u", "alien"), rated("v", "heat"), rated("v", "solaris")])
    await service.records.delete_item("amelie")
    asked = ask(
        user_id="u", candidates=["0ghost", "heat", "amelie", "solaris", "thing"], explain="full"
    )
    parts = [part async for part in await service.recommender.stream(asked)]
    ranking = parts[-1]
    assert isinstance(ranking, Ranking)
    assert ranking.strategy == "listwise"
    assert [item.item_id for item in ranking.items][3:] == ["0ghost", "amelie"]
    assert [bool(item.reason) for item in ranking.items] == [True, True, True, False, False]
    assert [part.rank for part in parts if isinstance(part, Reason)] == [1, 2, 3]
    assert ranking.warnings == [
        "candidates: not in the catalogue, so last and without a reason: 0ghost, amelie"
    ]


async def test_ids_that_the_catalogue_does_not_have_are_named_twenty_of_each_list(
    make: Make,
) -> None:
    service = await make()
    many = [f"x{n}" for n in range(1_023)]
    ranking = await service.recommender.recommend(
        ask(context_items=["alien", "a/b"], exclude=["heat", *many], strategy="prior")
    )
    assert ranking.warnings == [
        "context_items: not in the catalogue, so without effect: a/b",
        f"exclude: not in the catalogue, so without effect: {', '.join(many[:20])} and 1,003 more",
    ]
    assert (
        await service.recommender.recommend(
            ask(context_items=["alien"], exclude=["heat"], strategy="prior")
        )
    ).warnings == []
    both = await service.recommender.recommend(
        ask(candidates=["ghost", "heat"], exclude=["ghost"], strategy="prior")
    )
    assert both.warnings == ["exclude: not in the catalogue, so without effect: ghost"]


async def test_filters_that_admit_nothing_are_told_which_values_there_are(make: Make) -> None:
    service = await make()
    found = await service.recommender.recommend(
        ask(filters={"genre": {"any": ["western"]}, "year": {"gt": 1900}})
    )
    assert found.items == []
    assert found.warnings[0] == "filters: no item meets them"
    assert found.warnings[1].startswith("filters.genre: the catalogue has ")
    assert {"Horror", "Sci-Fi", "Crime"} <= {
        *found.warnings[1].removeprefix("filters.genre: the catalogue has ").split(", ")
    }
    assert found.warnings[2:] == ["filters.year: the catalogue has mostly 1979 to 1999"]
    await service.ingest.events([{"user_id": "u", "item_id": "heat", "type": "play"}])
    had = await service.recommender.recommend(
        ask(user_id="u", filters={"genre": {"any": ["crime"]}})
    )
    assert had.warnings == ["filters: all that they admit is excluded, or this person has had it"]
    assert (await service.recommender.recommend(ask(filters={"genre": {"any": ["CRIME"]}}))).items[
        0
    ].item_id == "heat"
    await service.ingest.items(
        [{"id": f"g{n}", "title": "Film", "attributes": {"genre": [f"G{n}"]}} for n in range(10)]
    )
    many = await service.recommender.recommend(ask(filters={"genre": {"any": ["western"]}}))
    assert many.warnings[1].endswith(", …")
    assert many.warnings[1].count(", ") == 10


async def test_a_newcomer_gets_what_is_popular_then_anything(make: Make) -> None:
    service = await make()
    await service.ingest.events([rated(f"u{n}", "heat") for n in range(3)])
    ranking = await service.recommender.recommend(
        ask(user_id="stranger", strategy="prior", top_n=8)
    )
    assert ranking.profile_source == "popularity"
    assert ranking.items[0].item_id == "heat"
    assert len(ranking.items) == 8


async def test_a_session_without_a_user_counts_as_history(make: Make) -> None:
    service = await make()
    await service.ingest.events([{"session_id": "s", "item_id": "alien", "type": "play"}])
    ranking = await service.recommender.recommend(ask(session_id="s", strategy="prior", top_n=2))
    assert ranking.profile_source == "session"
    assert {item.item_id for item in ranking.items} <= {"thing", "shining", "solaris"}


async def test_what_was_declared_speaks_for_a_user_without_events(make: Make) -> None:
    service = await make()
    await service.ingest.users(
        [{"user_id": "u", "attributes": {"favourite": "romance and comedy"}}]
    )
    ranking = await service.recommender.recommend(ask(user_id="u", strategy="prior", top_n=2))
    assert ranking.profile_source == "attributes"
    assert {item.item_id for item in ranking.items} <= {"notting", "amelie", "sunrise"}


async def test_an_instruction_filters_and_context_steer(make: Make) -> None:
    service = await make()
    asked = await service.recommender.recommend(
        ask(instruction="a crime film with action", strategy="prior", top_n=1)
    )
    assert (asked.items[0].item_id, asked.profile_source) == ("heat", "instruction")
    like_alien = await service.recommender.recommend(
        ask(context_items=["alien"], strategy="prior", top_n=1)
    )
    assert like_alien.items[0].item_id == "thing"
    filtered = await service.recommender.recommend(
        ask(filters={"genre": {"any": ["Romance"]}}, exclude=["amelie"], strategy="prior")
    )
    assert {item.item_id for item in filtered.items} == {"notting", "sunrise"}


async def test_candidates_that_are_all_excluded_make_an_empty_ranking(make: Make) -> None:
    service = await make()
    await service.ingest.events([rated("u", "alien")])
    ranking = await service.recommender.recommend(
        ask(user_id="u", candidates=["heat"], exclude=["heat"], instruction="funny")
    )
    assert ranking.items == []


async def test_an_event_for_an_unknown_item_is_used_once_the_item_arrives(make: Make) -> None:
    service = await make()
    await service.ingest.events([rated("u", "later")])
    assert (
        "Prometheus"
        not in (await service.previewer.preview(ask(user_id="u"), "rank")).messages[1]["content"]
    )
    await service.ingest.items([{"id": "later", "title": "Prometheus"}])
    assert (
        "Prometheus"
        in (await service.previewer.preview(ask(user_id="u"), "rank")).messages[1]["content"]
    )


async def test_a_bad_row_costs_itself_only(make: Make) -> None:
    service = await make()
    rows = [
        rated("u", "alien"),
        {"type": "like"},
        "nonsense",
        rated("u", "heat") | {"occurred_at": NOW + timedelta(days=9)},
    ]
    report = await service.ingest.events(rows)
    assert report.accepted == 1
    assert [one.index for one in report.rejected] == [1, 2, 3]
    assert "future" in report.rejected[2].message


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"strategy": "magic"}, BadRequest),
        ({"model": "gpt-9"}, NotFound),
        ({"top_n": 10_000}, BadRequest),
        ({"prompt_id": "movies/ghost"}, NotFound),
        ({"filters": {"colour": {"any": ["red"]}}}, BadRequest),
    ],
)
async def test_what_can_not_be_done_is_refused_clearly(
    make: Make, fields: dict[str, Any], error: type[Exception]
) -> None:
    service = await make()
    with pytest.raises(error):
        await service.recommender.recommend(ask(**fields))


class Watched(ScriptedLLM):
    """Tells a reason once, and would think about the others for ever. `given_up`: it was told not
    to."""

    def __init__(self) -> None:
        super().__init__(truthful, alias="tiny")
        self.asked, self.given_up = 0, 0

    async def stream(self, call: Call | OutgoingCall) -> AsyncGenerator[Piece, None]:
        self.asked += for_a_reason(call)
        try:
            if self.asked > 1:
                await asyncio.Event().wait()
            async for piece in super().stream(call):
                yield piece
        except asyncio.CancelledError:
            self.given_up += 1
            raise


async def test_a_stream_that_is_closed_stops_the_model_and_is_kept(make: Make) -> None:
    llm = Watched()
    service = await make(llm=llm)
    await service.ingest.events([rated("u", "alien")])
    parts = await service.recommender.stream(
        ask(user_id="u", candidates=["thing", "shining", "solaris"])
    )
    shown, reason = await anext(parts), await anext(parts)
    assert isinstance(shown, Ranking)
    assert isinstance(reason, Reason)
    assert (llm.asked, llm.given_up) == (3, 0)
    await parts.aclose()
    assert llm.given_up == 2
    while service.observers._tasks:
        await next(iter(service.observers._tasks))
    kept = await service.records.ranking(shown.ranking_id)
    assert [item.reason for item in kept.items] == [reason.reason, None, None]


async def test_a_ranking_is_kept_under_its_id(make: Make) -> None:
    service = await make()
    ranking = await service.recommender.recommend(ask(user_id="u"))
    while service.observers._tasks:
        await next(iter(service.observers._tasks))
    kept = await service.records.ranking(ranking.ranking_id)
    assert kept.model_dump() == ranking.model_dump()
    assert {item.item for item in kept.items} == {None}


async def test_nothing_of_a_person_who_disallowed_it_goes_to_a_hosted_model(
    make: Make, settings: Any
) -> None:
    outside = settings.models["tiny"].model_copy(update={"hosted": True})

    def never(call: Call) -> str:
        raise AssertionError("a model was asked")

    service = await make(never, changed=settings.model_copy(update={"models": {"tiny": outside}}))
    await service.ingest.users([{"user_id": "u", "allow_hosted": False}])
    await service.ingest.events([rated("u", "alien")])
    ranking = await service.recommender.recommend(ask(user_id="u"))
    assert ranking.degraded is not None
    assert ranking.degraded.reason == "not_allowed"


async def test_ids_never_reach_the_model(make: Make) -> None:
    seen: list[str] = []

    def watching(call: Call) -> str:
        seen.extend(message["content"] for message in call.messages)
        return backwards(call)

    films = [film | {"id": f"item-id-{n}"} for n, film in enumerate(FILMS)]
    service = await make(watching, films=films)
    await service.ingest.events([rated("user-id-7", "item-id-0")])
    await service.recommender.recommend(ask(user_id="user-id-7"))
    assert seen
    assert not any("item-id" in text or "user-id" in text for text in seen)


async def test_a_model_is_asked_where_it_has_a_share_and_where_somebody_wishes(make: Make) -> None:
    service = await make(weight=[0.0, 0.9, 0.0, 0.9])
    await service.ingest.events([rated("few", "alien")])
    await service.ingest.events([rated("some", str(film["id"])) for film in FILMS[:4]])

    async def model(**request: Any) -> tuple[str | None, str]:
        asked = ask(**{"explain": "none", "strategy": "auto", **request})
        ranking = await service.recommender.recommend(asked)
        return ranking.model, ranking.choice.why

    assert await model(user_id="few") == ("tiny", "")
    assert await model(user_id="some") == (None, NO_SHARE)
    assert await model(user_id="some", instruction="a comedy") == ("tiny", "")
    assert (await model(user_id="some", strategy="listwise"))[0] == "tiny"


async def test_a_model_without_a_share_is_asked_by_name_only(make: Make) -> None:
    service = await make(weight=0)
    await service.ingest.events([rated("u", "alien")])
    for wish in (None, "a comedy"):
        ranking = await service.recommender.recommend(
            ask(user_id="u", instruction=wish, strategy="auto")
        )
        assert (ranking.model, ranking.choice.why) == (None, NO_SHARE)
        assert ranking.degraded is None


async def test_auto_asks_for_likelihoods_and_says_why_not_where_nothing_is_known(
    settings: Settings,
) -> None:
    scorer = ScriptedLLM(
        lambda call: "", alias="titles", likely=lambda asked: -float("Heat" not in asked.text)
    )
    changed = settings.changed(
        {
            "models": {"titles": {"backend": "local", "model": "titles", "weight": 1.0}},
            "roles": {"score": "titles"},
            "rank": {"strategy": "auto"},
        }
    )
    service = await build(
        changed, llms={"tiny": ScriptedLLM(backwards, alias="tiny")}, scorers={"titles": scorer}
    )
    await service.ingest.items(FILMS)
    await service.ingest.embed_pending()
    await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
    known = await service.recommender.recommend(RecommendRequest(user_id="u"))
    assert (known.strategy, known.model, known.items[0].item_id) == ("likelihood", "titles", "heat")
    assert known.choice is not None
    assert (known.choice.asked, known.choice.why) == ("auto", "")
    unknown = await service.recommender.recommend(RecommendRequest(user_id="nobody"))
    assert (unknown.strategy, unknown.degraded) == ("prior", None)
    assert unknown.choice is not None
    assert unknown.choice.why == "hardly any history"
    named = await service.recommender.recommend(RecommendRequest(user_id="u", strategy="listwise"))
    assert (named.strategy, named.model) == ("listwise", "tiny")
    await service.close()


async def test_a_strategy_without_a_model_for_it_is_refused(make: Make) -> None:
    service = await make()
    with pytest.raises(BadRequest, match="likelihood"):
        await service.recommender.recommend(RecommendRequest(user_id="u", strategy="likelihood"))


async def test_what_draws_an_item_is_told_in_full(make: Make) -> None:
    service = await make()
    await service.ingest.events([rated("u", "notting"), rated("u", "alien", minutes=1)])
    full = await service.recommender.recommend(
        ask(user_id="u", candidates=["amelie", "thing"], explain="full", strategy="prior")
    )
    found = {item.item_id: item for item in full.items}
    assert found["amelie"].evidence == ["notting"]
    assert (found["amelie"].attribution.keys(), found["thing"].evidence) == ({"notting"}, ["alien"])
    facts = {(fact.kind, fact.value, fact.used) for fact in found["thing"].facts}
    assert {("shared", "Horror", True), ("event", None, True)} <= facts
    preview = await service.previewer.preview(ask(user_id="u", candidates=["amelie"]), "explain")
    assert "f1) Comedy, Romance" in preview.messages[1]["content"].replace(" and ", ", ")
    short = await service.recommender.recommend(ask(user_id="u"))
    assert all((item.attribution, item.facts) == ({}, []) for item in short.items)


async def test_what_a_letters_slot_is_worth_is_asked_once(make: Make, settings: Settings) -> None:
    llm = ScriptedLLM(lambda call: [-2.0 - n / 100 for n in range(len(call.tokens))], alias="tiny")
    service = await make(
        llm=llm, changed=settings.changed({"rank": {"strategy": "first_token", "orderings": 2}})
    )
    await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
    for calls in (3, 5):
        ranking = await service.recommender.recommend(RecommendRequest(user_id="u", explain="none"))
        assert (ranking.strategy, ranking.degraded, len(llm.calls)) == ("first_token", None, calls)
