"""The loss has its least value where planted weights are, and only there."""

from dataclasses import replace

import numpy as np
import pytest

from eval.listwise import JudgedList, learn


def lists(weights: list[float], count: int, seed: int = 0) -> list[JudgedList]:
    """People who choose one of twenty items by the softmax of these weights."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        features = rng.random((20, len(weights)))
        chances = np.exp(features @ np.array(weights))
        relevant = np.zeros(20, dtype=np.bool_)
        relevant[rng.choice(20, p=chances / chances.sum())] = True
        made.append(JudgedList(features, relevant))
    return made


def test_planted_weights_are_found_and_a_useless_feature_gets_none() -> None:
    found = learn(lists([6, 2, 0], 2_000), np.ones(3), ridge=1e-3)
    assert found == pytest.approx([6, 2, 0], abs=0.5)


def test_a_feature_that_misleads_gets_no_weight_below_zero() -> None:
    assert learn(lists([4, -5], 500), np.ones(2), ridge=1e-3)[1] == 0


def test_a_strong_ridge_keeps_the_weights_that_it_draws_to() -> None:
    towards = np.array([1.0, 3.0])
    assert learn(lists([6, 0], 50), towards, ridge=1e6) == pytest.approx(towards, abs=0.01)


def test_a_list_of_weight_two_counts_as_two_lists() -> None:
    some, others = lists([6, 0], 40), lists([0, 6], 40, seed=1)
    doubled = [*some, *(replace(each, weight=2.0) for each in others)]
    found = learn(doubled, np.zeros(2), ridge=0.1)
    assert found == pytest.approx(
        learn([*some, *others, *others], np.zeros(2), ridge=0.1), abs=1e-3
    )
    assert found[1] > learn([*some, *others], np.zeros(2), ridge=0.1)[1]
