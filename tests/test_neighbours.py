"""What the log says of pairs of items: planted pairs are found, whatever the size."""

import random

import numpy as np
import pytest

from service.retrieve import neighbours
from service.retrieve.neighbours import learn, summed_rows, together


def pairs(people: int = 60, items: int = 40) -> dict[tuple[str, str], float]:
    """Everybody likes some even items, each followed by the odd item behind it."""
    dice = random.Random(0)
    liked: dict[tuple[str, str], float] = {}
    for n in range(people):
        for item in dice.sample(range(0, items, 2), 6):
            liked[f"u{n}", f"i{item:02}"] = liked[f"u{n}", f"i{item + 1:02}"] = 1.0
    return liked


@pytest.mark.parametrize("closed_form", [neighbours.CLOSED_FORM, 0])
def test_what_is_liked_together_is_found_by_both_methods(
    closed_form: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "CLOSED_FORM", closed_form)
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    table = learn(pairs())["item_item"]
    for n in range(0, 40, 2):
        scores = summed_rows(table, [(f"i{n:02}", 1.0)])
        assert next(iter(scores)) == f"i{n + 1:02}"
        assert f"i{n:02}" not in scores
        assert [*scores.values()] == sorted(scores.values(), reverse=True)


def test_what_follows_is_found_and_what_precedes_is_not() -> None:
    table = learn(pairs())["sequence"]
    after = summed_rows(table, [("i04", 1.0)])
    assert next(iter(after)) == "i05"
    assert summed_rows(table, [("i05", 1.0)]).get("i04", 0) < after["i05"] / 3


def test_the_closed_form_is_the_regression_of_each_item_on_the_others() -> None:
    liked = pairs()
    table = learn(liked)["item_item"]
    people = sorted({who for who, _ in liked})
    likes = np.array([[(who, item) in liked for item in table.items] for who in people], float)
    ridge = max(neighbours.LEAST_RIDGE, neighbours.RIDGE * likes.sum(axis=1).mean() ** 2)
    item = table.places["i05"]
    others = np.delete(likes, item, axis=1)
    exact = np.linalg.solve(
        others.T @ others + ridge * np.eye(others.shape[1]), others.T @ likes[:, item]
    )
    names = [name for name in table.items if name != "i05"]
    for name, weight in zip(names, exact, strict=True):
        found = summed_rows(table, [(name, 1.0)]).get("i05", 0.0)
        assert found == pytest.approx(max(weight, 0), abs=1e-5)


def test_rows_keep_the_greatest_and_strangers_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = learn(pairs())["sequence"]
    monkeypatch.setattr(neighbours, "KEPT", 3)
    cut = learn(pairs())["sequence"]
    for item in cut.items:
        row = [*summed_rows(whole, [(item, 1.0)]).values()]
        assert [*summed_rows(cut, [(item, 1.0)]).values()] == row[:3]
    assert summed_rows(cut, [("stranger", 1.0)]) == {}


@pytest.mark.parametrize("block", [3, 256])
def test_people_who_chose_both_are_counted_if_more_than_by_chance(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", block)
    chosen = {(f"u{n}", "beans") for n in range(8)} | {(f"u{n}", "dripper") for n in range(3, 9)}
    chosen |= {(f"u{n}", "rice") for n in range(20)} | {("u1", "pen"), ("u2", "pen")}
    table = together([*chosen, *chosen])  # bought twice is bought
    assert table is not None
    place = table.places["beans"]
    row = slice(table.starts[place], table.starts[place + 1])
    counts = {
        table.items[other]: int(count)
        for other, count in zip(table.others[row], table.weights[row], strict=True)
    }
    assert counts == {"dripper": 5}  # everybody eats rice, and two people are too few
    assert together({("u", "a"), ("v", "b")}) is None
    assert together(set()) is None
