import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.config import HOUSE
from service.errors import (
    InvalidOutput,
    ModelError,
    ModelIncapable,
    ModelOverloaded,
    ModelUnreachable,
)
from service.llm import Asked, Call, Likelihoods, OutgoingCall, Piece
from service.models.meters import LatencyEstimator
from service.prompts import LETTERS, PromptLibrary
from service.rank import Context, Ladder, Order, Strategy, rank, reason_to_skip
from service.rank.first_token import FirstToken
from service.rank.fusion import Terms, falling, fused_order
from service.rank.keyed import Keyed
from service.rank.keyed import parse as keyed_parse
from service.rank.likelihood import Likelihood
from service.rank.listwise import Listwise, parse, permutation
from service.rank.pointwise import Pointwise
from service.schema import MIN_GAP, Candidate, Event, Item, Recent, Usage, UserState
from tests.scripted import ScriptedLLM

finite = st.floats(-1e9, 1e9)


@given(st.lists(finite, max_size=300))
def test_scores_lie_in_the_unit_interval_and_fall_strictly(values: list[float]) -> None:
    scores = falling(sorted(values, reverse=True))
    assert all(0 < score < 1 for score in scores)
    assert all(high - low >= MIN_GAP for high, low in pairwise(scores))


@given(
    st.lists(finite, min_size=1, max_size=60),
    st.data(),
    st.floats(0, 1),
    st.floats(-1, 1),
    st.floats(0, 1),
)
def test_fusion_is_a_permutation_with_finite_signals(
    prior: list[float], data: st.DataObject, weight: float, popularity: float, diversity: float
) -> None:
    prior = sorted(prior, reverse=True)
    model = data.draw(st.lists(finite, max_size=len(prior)))
    votes = data.draw(st.lists(finite, min_size=len(prior), max_size=len(prior)))
    plane = st.sampled_from([None, (1.0, 0.0), (0.0, 1.0), (0.6, 0.8)])
    vectors = data.draw(st.lists(plane, max_size=min(20, len(prior))))
    terms = Terms(weight, popularity, diversity)
    places, scores, signals = fused_order(prior, model, terms, popularity=votes, vectors=vectors)
    assert sorted(places) == list(range(len(prior)))
    assert all(math.isfinite(value) for row in signals for value in row.values())
    assert len(scores) == len(prior)
    assert all(high > low for high, low in pairwise(scores))
    plain, *_ = fused_order(prior, model, Terms(weight))
    assert plain[len(model) :] == list(range(len(model), len(prior)))


def test_popularity_and_likeness_are_taken_off() -> None:
    assert fused_order([3, 2, 1], [], Terms(popularity=1), popularity=[9, 0, 0])[0] == [1, 0, 2]
    twins = [(1.0, 0.0), (1.0, 0.0), (0.0, 1.0)]
    assert fused_order([3, 2.9, 2.85], [], Terms(diversity=1), vectors=twins)[0] == [0, 2, 1]
    assert fused_order([3, 2.9, 2.85], [], Terms(), vectors=twins)[0] == [0, 1, 2]


def test_a_weight_moves_the_order_from_the_prior_to_the_model() -> None:
    assert fused_order([3, 2, 1], [1, 2, 3], Terms(0.0))[0] == [0, 1, 2]
    assert fused_order([3, 2, 1], [1, 2, 3], Terms(1.0))[0] == [2, 1, 0]


@given(st.text(max_size=200), st.integers(2, 26))
def test_any_text_is_a_permutation_or_invalid(text: str, count: int) -> None:
    try:
        order, _ = parse(text, count)
    except InvalidOutput:
        return
    assert sorted(order) == list(range(count))


def test_repairs_are_counted() -> None:
    order, repairs = parse("C A C Z what", 4)
    assert order == [2, 0, 1, 3]
    assert (repairs.missing, repairs.duplicate, repairs.unknown) == (2, 1, 2)


def test_the_grammar_names_every_letter_once_a_rule() -> None:
    assert permutation(3).count("set_bit(2)") == 2


def candidates(count: int) -> list[Candidate]:
    return [
        Candidate(item=Item(id=f"i{n}", title=f"Film {n}"), prior=1 / (n + 1)) for n in range(count)
    ]


@cache
def prompts() -> PromptLibrary:
    return PromptLibrary(HOUSE / "prompts")


def context(seconds: float = 5) -> Context:
    find = partial(prompts().find, domain="movies", locale=None)
    deadline = asyncio.get_running_loop().time() + seconds
    return Context(find("rank"), find("score"), deadline, window=20, line_tokens=96, orderings=1)


async def ranked(
    shown: Sequence[Candidate],
    *ladder: Strategy,
    state: UserState = UserState(),  # noqa: B008  frozen
    within: Context | None = None,
    asked: str = "listwise",
    pace: LatencyEstimator | None = None,
) -> Order:
    steps = Ladder(ladder, asked, shares=dict.fromkeys((step.model for step in ladder), 1.0))
    return await rank(state, shown, within or context(), steps, pace or LatencyEstimator())


async def test_the_model_changes_the_order_and_the_tail_stays_behind() -> None:
    model = ScriptedLLM(lambda call: " ".join(reversed(LETTERS[:20])))
    order = await ranked(candidates(25), Listwise(model))
    assert [candidate.item.id for candidate in order.candidates] == [
        f"i{n}" for n in [*range(19, -1, -1), *range(20, 25)]
    ]
    assert (order.strategy, order.model, order.degraded) == ("listwise", "scripted", None)


async def test_the_ladder_goes_down_and_says_so() -> None:
    dead = ScriptedLLM(lambda call: ModelUnreachable("refused"), alias="dead")
    full = ScriptedLLM(lambda call: ModelOverloaded("503"), alias="full")
    fine = ScriptedLLM(lambda call: " ".join(LETTERS[:3]), alias="fine")
    order = await ranked(candidates(3), Listwise(dead), Listwise(full), Listwise(fine))
    assert order.degraded is not None
    assert (order.degraded.from_, order.degraded.to, order.degraded.reason) == (
        "listwise:dead",
        "listwise:fine",
        "unreachable",
    )
    alone = await ranked(candidates(3), Listwise(full))
    assert alone.degraded is not None
    assert (alone.strategy, alone.degraded.to, alone.degraded.reason) == (
        "prior",
        "prior",
        "overload",
    )
    assert [candidate.item.id for candidate in alone.candidates] == ["i0", "i1", "i2"]


@pytest.mark.parametrize("garbage", ["", "no letters here", "{}", "AAAA", "\x00"])
async def test_garbage_falls_to_the_prior(garbage: str) -> None:
    order = await ranked(candidates(4), Listwise(ScriptedLLM(lambda call: garbage)))
    assert order.degraded is not None
    assert order.degraded.reason == "invalid_output"


async def test_one_candidate_never_asks_a_model() -> None:
    model = ScriptedLLM(lambda call: "A")
    assert (await ranked(candidates(1), Listwise(model))).strategy == "prior"
    assert model.calls == []


@pytest.mark.parametrize("shown", ["prior", "reversed", "shuffled"])
async def test_the_order_in_which_a_model_sees_candidates_does_not_mix_up_whose_score_is_whose(
    shown: Literal["prior", "reversed", "shuffled"],
) -> None:
    def by_title(call: Call) -> str:
        lines = re.findall(
            r'^([A-Z])\) "(.*?)"',
            call.messages[-1]["content"].split("Candidates:")[-1],
            flags=re.MULTILINE,
        )
        return " ".join(
            letter for letter, _ in sorted(lines, key=lambda line: line[1], reverse=True)
        )

    model = ScriptedLLM(by_title)
    order = await ranked(candidates(4), Listwise(model), within=replace(context(), shown=shown))
    assert [candidate.item.id for candidate in order.candidates] == ["i3", "i2", "i1", "i0"]


# ── every strategy, one shape ─────────────────────────────────────────────────────────────────────


class Memory:
    def __init__(self) -> None:
        self.kept: dict[str, float] = {}

    async def get(self, keys: Sequence[str]) -> dict[str, float]:
        return {key: self.kept[key] for key in keys if key in self.kept}

    async def put(self, values: Mapping[str, float]) -> None:
        self.kept |= values


def a_person(*titles: str) -> UserState:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    liked = [
        Recent(
            event=Event(user_id="u", item_id=title, type="like", occurred_at=when),
            item=Item(id=title, title=title),
            weight=1,
            verb="liked",
        )
        for title in titles
    ]
    return UserState(recent=tuple(liked))


STRATEGIES: dict[str, Callable[[ScriptedLLM], Strategy]] = {
    "likelihood": lambda llm: Likelihood(llm, 0.6, Memory()),
    "first_token": lambda llm: FirstToken(llm),
    "listwise": lambda llm: Listwise(llm),
    "keyed": lambda llm: Keyed(llm),
    "pointwise": lambda llm: Pointwise(llm),
}


def alphabetical(call: Call) -> str | list[float]:
    """A model that likes titles by the alphabet, however it is asked."""
    lines = re.findall(
        r'^([A-Z])\) "(.*?)"',
        call.messages[-1]["content"].split("Candidates:")[-1],
        flags=re.MULTILINE,
    )
    places = {letter: -sorted(title for _, title in lines).index(title) for letter, title in lines}
    if call.tokens[:1] == (ord("Y"),):  # pointwise: yes, no
        return [-float(ord(lines[0][1][5])), -999.0, -0.1, -999.0]
    if call.tokens:
        return [float(places[letter]) for letter in places]
    if call.schema:
        return json.dumps(
            {letter: round(10 + 10 * place / len(places)) for letter, place in places.items()}
        )
    return " ".join(sorted(places, key=lambda letter: -places[letter]))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("count", [2, 7, 20, 45])
@pytest.mark.parametrize("orderings", [1, 2, 3])
async def test_every_strategy_gives_each_candidate_one_finite_score(
    name: str, count: int, orderings: int
) -> None:
    model = ScriptedLLM(alphabetical)
    within = replace(context(), orderings=orderings, depth=50)
    order = await ranked(
        candidates(count), STRATEGIES[name](model), state=a_person("Film 3", "Heat"), within=within
    )
    assert (order.strategy, order.degraded) == (name, None)
    assert sorted(candidate.item.id for candidate in order.candidates) == sorted(
        f"i{n}" for n in range(count)
    )
    assert all(math.isfinite(signals["model"]) for signals in order.signals)


@pytest.mark.parametrize("name", ["first_token", "listwise", "keyed", "pointwise"])
async def test_every_strategy_that_asks_changes_the_order_to_the_models(name: str) -> None:
    shown = [
        Candidate(item=Item(id=t, title=f"Film {t}"), prior=1 / n) for n, t in enumerate("dbace", 1)
    ]
    order = await ranked(shown, STRATEGIES[name](ScriptedLLM(alphabetical)), state=a_person("Heat"))
    assert [candidate.item.id for candidate in order.candidates] == list("abcde")


async def test_likelihood_prefers_what_is_likelier_after_these_titles_than_alone() -> None:
    def likely(asked: Asked) -> float:
        after = len(asked.context) > 1
        return {"Film 1": -9.0, "Film 2": -2.0, "Film 3": -30.0}[asked.text] + (
            5.0 if after and asked.text == "Film 3" else 0.0
        )

    memory, shown = Memory(), candidates(4)[1:]
    strategy = Likelihood(ScriptedLLM(lambda call: "", likely=likely), 1.0, memory)
    order = await ranked(shown, strategy, state=a_person("Heat"))
    assert order.candidates[0].item.id == "i3"
    assert order.signals[0]["likelihood"] - order.signals[0]["null"] == 5
    assert len(memory.kept) == 3
    nobody = await ranked(shown, strategy)
    assert [candidate.item.id for candidate in nobody.candidates] == ["i1", "i2", "i3"]


@pytest.mark.parametrize("name", ["first_token", "listwise", "keyed"])
async def test_a_model_that_likes_the_first_slot_moves_nothing(name: str) -> None:
    def first_slot(call: Call) -> str | list[float]:
        letters = re.findall(
            r'^([A-Z])\) "',
            call.messages[-1]["content"].split("Candidates:")[-1],
            flags=re.MULTILINE,
        )
        if call.tokens:
            return [-float(n) for n, _ in enumerate(letters)]
        if call.schema:
            return json.dumps({letter: max(0, 10 - n) for n, letter in enumerate(letters)})
        return " ".join(letters)

    within = replace(context(), orderings=2)
    order = await ranked(
        candidates(9),
        STRATEGIES[name](ScriptedLLM(first_slot)),
        state=a_person("Heat"),
        within=within,
    )
    assert [candidate.item.id for candidate in order.candidates] == [f"i{n}" for n in range(9)]


async def test_letters_without_probability_are_no_answer() -> None:
    order = await ranked(
        candidates(5), FirstToken(ScriptedLLM(lambda call: [-9.0] * 5)), state=a_person("Heat")
    )
    assert order.degraded is not None
    assert order.degraded.reason == "invalid_output"


@pytest.mark.parametrize("name", ["listwise", "keyed", "first_token", "pointwise", "likelihood"])
@pytest.mark.parametrize(
    "error", [ModelUnreachable("gone"), ModelIncapable("no"), ModelOverloaded("503")]
)
async def test_a_failing_model_leaves_the_prior(name: str, error: ModelError) -> None:
    model = Failing(error)
    order = await ranked(
        candidates(30),
        STRATEGIES[name](model),
        state=a_person("Heat"),
        within=replace(context(), orderings=2, depth=30),
    )
    assert order.degraded is not None
    assert (order.strategy, order.degraded.reason) == ("prior", error.code)
    assert [candidate.item.id for candidate in order.candidates] == [f"i{n}" for n in range(30)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_a_likelihood_that_is_no_number_leaves_the_prior(value: float) -> None:
    model = ScriptedLLM(
        lambda call: "", likely=lambda asked: value if asked.text == "Film 2" else -3.0
    )
    memory = Memory()
    order = await ranked(candidates(5), Likelihood(model, 0.6, memory), state=a_person("Heat"))
    assert order.degraded is not None
    assert (order.strategy, order.degraded.reason) == ("prior", "invalid_output")
    assert set(memory.kept.values()) == {-3.0}  # what is kept would come back for ever
    assert [candidate.item.id for candidate in order.candidates] == [f"i{n}" for n in range(5)]


class Failing(ScriptedLLM):
    def __init__(self, error: ModelError) -> None:
        super().__init__(lambda call: error)
        self.error = error

    async def loglikelihoods(self, *asked: Any, **options: Any) -> Likelihoods:
        raise self.error


# ── the choice ────────────────────────────────────────────────────────────────────────────────────


class Slow(ScriptedLLM):
    """Answers after so many seconds; notices when it is stopped."""

    def __init__(self, seconds: float, *, alias: str) -> None:
        super().__init__(alphabetical, alias=alias)
        self.seconds = seconds
        self.stopped = False

    async def stream(self, call: Call | OutgoingCall) -> AsyncGenerator[Piece, None]:
        try:
            await asyncio.sleep(self.seconds)
            async with aclosing(super().stream(call)) as pieces:
                async for piece in pieces:
                    yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped = True
            raise


async def test_a_deadline_stops_the_model_and_is_kept() -> None:
    slow = Slow(30, alias="slow")
    start = asyncio.get_running_loop().time()
    order = await ranked(candidates(5), Listwise(slow), state=a_person("Heat"), within=context(0.2))
    assert asyncio.get_running_loop().time() - start < 0.4
    assert slow.stopped
    assert order.degraded is not None
    assert (order.degraded.from_, order.degraded.to, order.degraded.reason) == (
        "listwise:slow",
        "prior",
        "timeout",
    )


async def test_time_is_kept_for_the_cheaper_strategy_whose_pace_is_known() -> None:
    slow, quick, pace = (
        Slow(30, alias="slow"),
        ScriptedLLM(alphabetical, alias="quick"),
        LatencyEstimator(),
    )
    pace.record_answer("quick", Usage(prompt_tokens=1_000), 0.1, 0.1)
    ladder = Listwise(slow), Likelihood(quick, 0.6, Memory())
    order = await ranked(
        candidates(5), *ladder, state=a_person("Heat"), within=context(0.4), pace=pace
    )
    assert order.strategy == "likelihood"
    assert order.degraded is not None
    assert (order.degraded.from_, order.degraded.reason) == ("listwise:slow", "timeout")


async def test_one_that_is_expected_in_time_is_given_all_of_it() -> None:
    slow, pace = Slow(0.25, alias="slow"), LatencyEstimator()
    pace.record_answer("slow", Usage(prompt_tokens=1_000), 0.25, 0.25)
    ladder = Listwise(slow), Likelihood(slow, 0.6, Memory())
    order = await ranked(
        candidates(5), *ladder, state=a_person("Heat"), within=context(0.5), pace=pace
    )
    assert (order.strategy, order.degraded) == ("listwise", None)


async def test_auto_takes_the_first_that_is_expected_in_time_and_says_what_it_took() -> None:
    slow, quick, pace = (
        ScriptedLLM(alphabetical, alias="slow"),
        ScriptedLLM(alphabetical, alias="quick"),
        LatencyEstimator(),
    )
    pace.record_answer("slow", Usage(prompt_tokens=100), 10, 10)
    pace.record_answer("quick", Usage(prompt_tokens=1_000), 0.1, 0.1)
    ladder = Listwise(slow), Likelihood(quick, 0.6, Memory())
    order = await ranked(
        candidates(5), *ladder, state=a_person("Heat"), within=context(2), asked="auto", pace=pace
    )
    assert (order.strategy, slow.calls) == ("likelihood", [])
    assert order.choice is not None
    assert order.choice.estimate_ms is not None
    assert order.choice.took_ms >= 0


def test_a_pace_is_forgotten_so_that_a_recovered_server_is_tried_again() -> None:
    now = [0.0]
    pace = LatencyEstimator(lambda: now[0])
    pace.record_timeout("slow", Usage(prompt_tokens=100), 10)
    assert (pace.seconds("slow", Usage(prompt_tokens=100)) or 0) >= 10
    now[0] = 1_000.0
    assert pace.seconds("slow", Usage(prompt_tokens=100)) is None


def test_no_model_is_asked_where_none_would_help() -> None:
    assert reason_to_skip(UserState(), candidates(5), 1, 9) == "hardly any history"
    assert reason_to_skip(a_person("Heat"), candidates(5), 1, 9) == ""
    clear = [
        Candidate(item=Item(id="a"), prior=1.0),
        *(Candidate(item=Item(id=f"b{n}"), prior=0.01) for n in range(30)),
    ]
    assert reason_to_skip(a_person("Heat"), clear, 1, 4) == "the prior is clear"


# ── answers nobody would expect ───────────────────────────────────────────────────────────────────

NOISE = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from([*LETTERS[:12], "AA", "Z", "10", "[1] >", "B)", "最佳", "\x00", "h1"]),
        max_size=40,
    ).map(" ".join),
    st.dictionaries(
        st.sampled_from([*LETTERS[:8], "x", ""]),
        st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.none()),
    ).map(lambda found: "Sure! " + json.dumps(found) + " Hope that helps {"),
    st.sampled_from(
        [
            "",
            " ",
            "{",
            "null",
            "[]",
            '{"A": 1e999}',
            "A" * 1_000_000,
            '{"A": ' * 1_000,
            '{"A": 5, "A": 6, "B": -3',
        ]
    ),
)


@given(NOISE, st.integers(2, 26))
def test_whatever_a_model_says_the_parsers_give_scores_or_say_that_it_is_none(
    text: str, count: int
) -> None:
    readers: list[Callable[[], Sequence[float]]] = [
        lambda: parse(text, count)[0],
        lambda: keyed_parse(text, count, 26)[0],
    ]
    for read in readers:
        try:
            values = read()
        except InvalidOutput:
            continue
        assert len(values) == count
        assert all(map(math.isfinite, values))


@pytest.mark.parametrize(
    ("text", "values", "missing"),
    [
        ('{"A": 7, "B": 2, "C": 9}', [7, 2, 9], 0),
        ('Here you are:\n{"A": 7, "B": 2, "C": 99} and so on }', [7, 2, 10], 0),
        ('{"A": 7, "B": 2, "C"', [7, 2, 0], 1),
        ('{"A": "7", "B": 2, "C": true, "Q": 1}', None, 0),
    ],
)
def test_scores_in_json_are_read_as_far_as_they_go(
    text: str, values: list[float] | None, missing: int
) -> None:
    if values is None:
        with pytest.raises(InvalidOutput):
            keyed_parse(text, 3, 10)
    else:
        found, repairs = keyed_parse(text, 3, 10)
        assert (found, repairs.missing) == (values, missing)
