from math import log2

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from eval.metrics import World, coverage, graded_ndcg, kendall, metric, spearman
from service.errors import BadRequest

ITEMS = [f"i{n}" for n in range(30)]
WORLD = World(
    facts={
        "a": frozenset({("g", "x"), ("y", 1)}),
        "b": frozenset({("g", "x"), ("y", 2)}),
        "c": frozenset({("g", "z")}),
    },
    actors={"a": 9, "b": 1},
    people=10,
)


@given(
    st.permutations(ITEMS),
    st.integers(1, 30),
    st.sets(st.sampled_from([*ITEMS, "lost"]), min_size=1),
    st.integers(1, 40),
)
def test_metrics_agree_with_ir_measures(
    order: list[str], length: int, relevant: set[str], k: int
) -> None:
    ranking = order[:length]
    run = {"q": {item: float(len(ranking) - place) for place, item in enumerate(ranking)}}
    truth = {"q": dict.fromkeys(relevant, 1)}
    pairs = {
        f"nDCG@{k}": nDCG @ k,
        f"recall@{k}": R @ k,
        f"MRR@{k}": RR @ k,
        f"HR@{k}": Success @ k,
        "MRR": RR,
        "nDCG": nDCG,
    }
    expected = ir_measures.calc_aggregate(list(pairs.values()), truth, run)
    for name, theirs in pairs.items():
        assert metric(name).of(ranking, relevant) == pytest.approx(expected[theirs], abs=1e-9), name


def test_a_metric_prints_as_typed_in_any_case() -> None:
    assert [str(metric(name)) for name in ("ndcg@10", "MRR", "ild@5")] == [
        "nDCG@10",
        "MRR",
        "ILD@5",
    ]


@pytest.mark.parametrize("name", ["", "ndcg@0", "ndcg@", "accuracy", "nDCG@10@20", "nDCG@-1", "@5"])
def test_an_unknown_metric_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(BadRequest, match="nDCG"):
        metric(name)


def test_no_answer_counts_as_nothing_found() -> None:
    assert (
        metric("nDCG@10").of([], {"a"})
        == metric("MRR").of([], {"a"})
        == metric("ILD@5").of([], {"a"}, WORLD)
        == 0
    )


def test_rare_items_are_novel_and_unlike_ones_diverse() -> None:
    assert metric("novelty@1").of(["b"], (), WORLD) > metric("novelty@1").of(["a"], (), WORLD)
    assert metric("novelty@1").of(["never seen"], (), WORLD) == pytest.approx(3.585, abs=1e-3)
    assert metric("ILD@2").of(["a", "b"], (), WORLD) == pytest.approx(2 / 3)
    assert metric("ILD@3").of(["a", "b", "c"], (), WORLD) == pytest.approx((2 / 3 + 1 + 1) / 3)


def test_coverage_counts_what_anyone_was_shown() -> None:
    assert coverage([["a", "b"], ["a", "c"]], 1, 4) == 0.25
    assert coverage([], 5, 0) == 0


@given(st.permutations(ITEMS))
def test_orders_agree_with_themselves_and_oppose_their_reverse(order: list[str]) -> None:
    assert kendall(order, order) == spearman(order, order) == 1
    assert kendall(order, order[::-1]) == spearman(order, order[::-1]) == -1


def test_graded_gains_count_by_place_against_the_best_order() -> None:
    assert graded_ndcg([1.0, 0.5], [0.5, 0.0, 1.0], 2) == 1
    swapped = graded_ndcg([0.5, 1.0, 9.0], [0.5, 0.0, 1.0], 2)
    assert swapped == pytest.approx((0.5 + 1 / log2(3)) / (1 + 0.5 / log2(3)))
    assert graded_ndcg([0.0], [0.0], 2) is None
