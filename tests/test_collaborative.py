import random
from typing import Any

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from service.retrieve.factorization import FEWEST, Factors, fold_in, likes, train

KNOBS: dict[str, Any] = {"factors": 8, "alpha": 5, "regularization": 0.02, "iterations": 15}


def blocks(
    people: int = 60, items: int = 40, parts: int = 4, likes: int = 6
) -> list[tuple[str, str, float]]:
    """Who is of one block likes a few of its items and nothing else."""
    dice = random.Random(0)
    return [
        (f"u{n:02}", f"i{item}", 1.0)
        for n in range(people)
        for item in dice.sample([m for m in range(items) if m % parts == n % parts], likes)
    ]


def learned(opinions: list[tuple[str, str, float]], **changes: Any) -> Factors:
    found = train(likes(opinions), **{**KNOBS, **changes})
    assert found is not None
    return found


def best(found: Factors, liked: list[str], k: int, alpha: float = 5) -> list[str]:
    vectors = np.array([found.items[item] for item in liked], dtype=np.float64)
    weights = np.ones(len(liked))
    person = fold_in(vectors, weights, found.gram, alpha=alpha, regularization=found.regularization)
    scores = {
        item: float(vector @ person) for item, vector in found.items.items() if item not in liked
    }
    return sorted(scores, key=lambda item: -scores[item])[:k]


def test_people_who_share_some_likes_share_the_others() -> None:
    found = learned(blocks())
    for part in range(4):
        assert {int(item[1:]) % 4 for item in best(found, [f"i{part}", f"i{part + 4}"], 8)} == {
            part
        }


def test_one_like_is_enough_for_a_taste() -> None:
    assert {int(item[1:]) % 4 for item in best(learned(blocks()), ["i3"], 5)} == {3}


def test_folding_in_is_what_the_library_itself_computes_for_a_person() -> None:
    likes = [(who, item, 0.2 + 0.8 * (n % 3) / 2) for n, (who, item, _) in enumerate(blocks())]
    found = learned(likes)
    names = sorted(found.items)
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=8, regularization=found.regularization, num_threads=1
        )
        model.item_factors = np.array([found.items[name] for name in names])
        for who in ("u00", "u31"):
            mine = {item: weight for name, item, weight in likes if name == who}
            row = csr_matrix(
                (
                    [1 + 5 * weight for weight in mine.values()],
                    ([0] * len(mine), [names.index(item) for item in mine]),
                ),
                shape=(1, len(names)),
            )
            theirs = model.recalculate_user(0, row)
            ours = fold_in(
                np.array([found.items[item] for item in mine], dtype=np.float64),
                np.array([*mine.values()]),
                found.gram,
                alpha=5,
                regularization=found.regularization,
            )
            assert np.allclose(ours, theirs, atol=1e-4)


def test_the_same_opinions_make_the_same_factors_whoever_comes_first() -> None:
    opinions = blocks()
    one, two = learned(opinions), learned(random.Random(1).sample(opinions, len(opinions)))
    assert all(np.array_equal(one.items[item], two.items[item]) for item in one.items)
    assert np.array_equal(one.gram, two.gram)


def test_a_dislike_takes_a_like_back_until_it_is_liked_again() -> None:
    likes = blocks()
    who, item, _ = likes[0]
    plain, undone, redone = (
        learned(likes + more)
        for more in (
            [],
            [(who, item, -0.3)],
            [(who, item, -0.3), (who, item, 1.0), (who, item, 0.0)],
        )
    )
    assert not np.array_equal(plain.gram, undone.gram)
    assert np.allclose(plain.gram, redone.gram)
    assert np.allclose(undone.gram, learned(likes[1:]).gram)


@pytest.mark.parametrize(
    "opinions",
    [
        [],
        [("u", f"i{n}", 1.0) for n in range(1_000)],
        [(f"u{n}", "i", 1.0) for n in range(1_000)],
        [(f"u{n}", f"i{n}", -1.0) for n in range(1_000)],
        [(f"u{n}", f"i{n}", 1.0) for n in range(FEWEST - 1)],
    ],
)
def test_nothing_is_learned_from_too_little(opinions: list[tuple[str, str, float]]) -> None:
    assert train(likes(opinions), **KNOBS) is None


@pytest.mark.parametrize("weight", [1e-9, 0.2, 1.0])
@pytest.mark.parametrize(
    "changes",
    [{}, {"alpha": 1000, "regularization": 1e-6}, {"regularization": 0.5}, {"factors": 128}],
)
def test_factors_are_finite_and_alive_however_thin_the_log(
    weight: float, changes: dict[str, float]
) -> None:
    strangers, glutton = (
        [(f"u{n}", f"i{n}", 1.0) for n in range(FEWEST)],
        [("u", f"i{n}", 1.0) for n in range(300)],
    )
    for opinions in (blocks(), strangers, glutton + blocks()):
        found = learned([(who, item, weight) for who, item, _ in opinions], **changes)
        person = fold_in(
            np.array([found.items["i3"]], dtype=np.float64),
            np.array([weight]),
            found.gram,
            alpha=KNOBS["alpha"],
            regularization=found.regularization,
        )
        assert np.isfinite(person).all()
        assert all(np.isfinite(vector).all() for vector in found.items.values())
        assert max(float(np.abs(vector).max()) for vector in found.items.values()) > 1e-3
