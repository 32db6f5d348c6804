import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.config import HOUSE
from service.errors import InvalidOutput, ModelOverloaded, ModelUnreachable
from service.llm import Call
from service.llm.scripted import ScriptedLLM
from service.prompts import LETTERS, PromptLibrary
from service.rank import Context, Order, Strategy, rank
from service.rank.fusion import Terms, falling, fused_order
from service.rank.listwise import Listwise, parse, permutation
from service.rank.pace import Pace
from service.schema import MIN_GAP, Candidate, Item, UserState

finite = st.floats(-1e9, 1e9)


@given(st.lists(finite, max_size=300))
def test_scores_lie_in_the_unit_interval_and_fall_strictly(values: list[float]) -> None:
    scores = falling(sorted(values, reverse=True))
    assert all(0 < score < 1 for score in scores)
    assert all(high - low >= MIN_GAP for high, low in pairwise(scores))


@given(st.lists(finite, min_size=1, max_size=60), st.data(), st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1))
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
    return [Candidate(item=Item(id=f"i{n}", title=f"Film {n}"), prior=1 / (n + 1)) for n in range(count)]


def context(seconds: float = 5) -> Context:
    prompts = PromptLibrary(HOUSE / "prompts")
    find = partial(prompts.find, domain="movies", locale=None)
    deadline = asyncio.get_running_loop().time() + seconds
    return Context(find("rank"), find("score"), deadline, window=20, line_tokens=96, orderings=1)


async def ranked(
    shown: Sequence[Candidate],
    *ladder: Strategy,
    state: UserState = UserState(),  # noqa: B008  frozen
    within: Context | None = None,
    asked: str = "listwise",
    pace: Pace | None = None,
) -> Order:
    return await rank(state, shown, within or context(), ladder, pace or Pace(), asked=asked)


async def test_the_model_changes_the_order_and_the_tail_stays_behind() -> None:
    model = ScriptedLLM(lambda call: " ".join(reversed(LETTERS[:20])))
    order = await ranked(candidates(25), Listwise(model, 1))
    assert [candidate.item.id for candidate in order.candidates] == [f"i{n}" for n in [*range(19, -1, -1), *range(20, 25)]]
    assert (order.strategy, order.model, order.degraded) == ("listwise", "scripted", None)


async def test_the_ladder_goes_down_and_says_so() -> None:
    dead = ScriptedLLM(lambda call: ModelUnreachable("refused"), alias="dead")
    full = ScriptedLLM(lambda call: ModelOverloaded("503"), alias="full")
    fine = ScriptedLLM(lambda call: " ".join(LETTERS[:3]), alias="fine")
    order = await ranked(candidates(3), Listwise(dead, 1), Listwise(full, 1), Listwise(fine, 1))
    assert order.degraded is not None
    assert (order.degraded.from_, order.degraded.to, order.degraded.reason) == ("listwise:dead", "listwise:fine", "unreachable")
    alone = await ranked(candidates(3), Listwise(full, 1))
    assert alone.degraded is not None
    assert (alone.strategy, alone.degraded.to, alone.degraded.reason) == ("prior", "prior", "overload")
    assert [candidate.item.id for candidate in alone.candidates] == ["i0", "i1", "i2"]


@pytest.mark.parametrize("garbage", ["", "no letters here", "{}", "AAAA", "\x00"])
async def test_garbage_falls_to_the_prior(garbage: str) -> None:
    order = await ranked(candidates(4), Listwise(ScriptedLLM(lambda call: garbage), 1))
    assert order.degraded is not None
    assert order.degraded.reason == "invalid_output"


async def test_one_candidate_never_asks_a_model() -> None:
    model = ScriptedLLM(lambda call: "A")
    assert (await ranked(candidates(1), Listwise(model, 1))).strategy == "prior"
    assert model.calls == []


@pytest.mark.parametrize("shown", ["prior", "reversed", "shuffled"])
async def test_the_order_in_which_a_model_sees_candidates_does_not_mix_up_whose_score_is_whose(
    shown: Literal["prior", "reversed", "shuffled"],
) -> None:
    def by_title(call: Call) -> str:
        lines = re.findall(r'^([A-Z])\) "(.*?)"', call.messages[-1]["content"].split("Candidates:")[-1], flags=re.MULTILINE)
        return " ".join(letter for letter, _ in sorted(lines, key=lambda line: line[1], reverse=True))

    model = ScriptedLLM(by_title)
    order = await ranked(candidates(4), Listwise(model, 1), within=replace(context(), shown=shown))
    assert [candidate.item.id for candidate in order.candidates] == ["i3", "i2", "i1", "i0"]
