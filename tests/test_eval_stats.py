import numpy as np
import pytest

from eval.stats import fisher, holm, interval, paired


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    dice = np.random.default_rng(7)
    hits = 0
    for _ in range(1_000):
        other = dice.beta(1, 6, 200)
        found = paired(
            dice.beta(1, 6, 200) + 0.05 + dice.normal(0, 0.1, 200), other, resamples=1_000
        )
        hits += found.low <= 0.05 <= found.high
    assert 930 <= hits <= 970


def test_nothing_is_found_where_nothing_is_in_nineteen_of_twenty() -> None:
    dice = np.random.default_rng(3)
    found = [paired(dice.beta(1, 6, 80), dice.beta(1, 6, 80), resamples=500).p for _ in range(400)]
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.08


def test_equal_values_are_no_difference() -> None:
    found = paired([0.5, 0.1, 0.9], [0.5, 0.1, 0.9])
    assert (found.difference, found.low, found.high, found.p, found.clear) == (0, 0, 0, 1, False)


def test_a_clear_difference_is_found_again_with_the_same_seed() -> None:
    dice = np.random.default_rng(1)
    other = dice.random(100)
    one = other + 0.2 + dice.normal(0, 0.1, 100)
    first, again = paired(one, other, seed=5), paired(one, other, seed=5)
    assert first == again
    assert first.p < 0.001
    assert first.low < 0.2 < first.high
    assert 0 < first.seen < 0.05


@pytest.mark.parametrize("values", [([], []), ([1.0], [1.0, 2.0])])
def test_values_that_are_not_pairs_are_refused(values: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="paired"):
        paired(*values)


def test_one_case_says_nothing() -> None:
    assert paired([1.0], [0.0]).seen == float("inf")
    assert np.isnan(interval([])).all()


def test_holm_asks_more_of_each_when_many_are_looked_at() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )
    assert holm({}) == {}


def test_fisher_agrees_with_scipy() -> None:
    from scipy.stats import fisher_exact

    for table in ([[3, 7], [1, 99]], [[0, 5], [2, 3]], [[5, 0], [0, 5]]):
        (a, b), (c, d) = table
        assert fisher(a, a + b, c, c + d) == pytest.approx(
            fisher_exact(table, alternative="greater").pvalue
        )
