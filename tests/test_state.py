from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from service.config import MEANINGS
from service.schema import Event
from service.state import LEARN_FROM, anchored, interests, likes, opinion, seen
from service.store.database import micros

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(kind: str, item: str = "a", minutes: int = 0, **more: object) -> Event:
    moment = NOON + timedelta(minutes=minutes)
    return Event.model_validate(
        {"user_id": "u", "type": kind, "item_id": item, "occurred_at": moment, **more}
    )


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 1), (4, 1), (3, 0), (2, -1), (0.5, -1), (None, 1)]
)
def test_a_rating_says_what_its_value_says(value: float | None, expected: float) -> None:
    assert opinion(event("rating", value=value), MEANINGS) == expected


def test_an_unknown_type_says_nothing() -> None:
    assert opinion(event("teleport"), MEANINGS) == 0


def test_the_window_grows_at_its_end_and_then_starts_again() -> None:
    events = [event("like", f"i{n}", n) for n in range(40)]
    sizes = [len(anchored(events[:n], 6, 15)) for n in range(1, 41)]
    assert sizes[:16] == [*range(1, 16), 6]
    assert max(sizes) == 15
    assert sizes[15:25] == list(range(6, 16))
    firsts = [anchored(events[:n], 6, 15)[0].item_id for n in range(16, 26)]
    assert len(set(firsts)) == 1


def test_two_tastes_stay_two_and_a_dislike_pushes_away() -> None:
    vectors = {
        name: np.array(vector, dtype=np.float32)
        for name, vector in {"a": [1, 0], "b": [0, 1], "c": [0.6, 0.8]}.items()
    }
    both = interests([event("like", "a"), event("like", "b", 1)], vectors, MEANINGS)
    assert len(both) == 2
    assert sum(taste.weight for taste in both) == pytest.approx(1)
    pushed = interests([event("like", "a"), event("dislike", "c", 1)], vectors, MEANINGS)[0]
    assert pushed.vector[1] < 0
    assert np.linalg.norm(pushed.vector) == pytest.approx(1, abs=1e-5)


def test_blocked_until_unblocked_consumed_for_good() -> None:
    latest = [
        ("x", "block", 5),
        ("y", "block", 5),
        ("y", "unblock", 6),
        ("z", "unblock", 4),
        ("z", "block", 5),
    ]
    assert seen([*latest, ("w", "play", 1)], MEANINGS, NOON) == {"x", "z", "w"}


def test_what_is_bought_again_is_hidden_for_so_long_only() -> None:
    again = {**MEANINGS, "purchase": MEANINGS["purchase"].model_copy(update={"repeat_after": 30})}
    latest = [
        ("tea", "purchase", micros(NOON - timedelta(days=29))),
        ("soap", "purchase", micros(NOON - timedelta(days=30))),
    ]
    assert seen(latest, again, NOON) == {"tea"}
    assert seen(latest, MEANINGS, NOON) == {"tea", "soap"}
    assert seen([*latest, ("soap", "dislike", 1)], again, NOON) == {"tea", "soap"}


def test_a_like_that_was_taken_back_hides_nothing_a_play_still_does() -> None:
    latest = [
        ("a", "like", 5),
        ("a", "unlike", 6),
        ("b", "unlike", 5),
        ("b", "like", 6),
        ("c", "play", 5),
        ("c", "unlike", 6),
    ]
    assert seen(latest, MEANINGS, NOON) == {"b", "c"}


def test_what_is_in_the_cart_is_hidden_until_it_is_taken_out_or_bought() -> None:
    latest = [
        ("pen", "add_to_cart", 5),
        ("ink", "add_to_cart", 5),
        ("ink", "remove_from_cart", 6),
        ("nib", "remove_from_cart", 5),
        ("nib", "add_to_cart", 6),
        ("soap", "add_to_cart", micros(NOON - timedelta(days=41))),
        ("soap", "purchase", micros(NOON - timedelta(days=40))),
    ]
    again = {**MEANINGS, "purchase": MEANINGS["purchase"].model_copy(update={"repeat_after": 30})}
    assert seen(latest, again, NOON) == {"pen", "nib"}
    assert seen(latest, MEANINGS, NOON) == {"pen", "nib", "soap"}


def test_a_like_today_and_tastes_of_decades_ago_stay_finite_unit_vectors() -> None:
    vectors = {name: np.eye(3, dtype=np.float32)[n] for n, name in enumerate("abc")}
    years = 60 * 24 * 365 * 28
    now = [event("like", "a"), event("dislike", "b", 1), event("like", "c", years)]
    alone = [event("like", "a"), event("dislike", "b", years)]
    for events in (now, alone):
        found = interests(events, vectors, MEANINGS)
        assert found
        assert all(np.linalg.norm(taste.vector) == pytest.approx(1, abs=1e-5) for taste in found)


def test_the_latest_likes_are_known_and_a_dislike_takes_one_back() -> None:
    events = [
        event("like", "a"),
        event("click", "b"),
        event("like", "c"),
        event("dislike", "a"),
        event("search"),
        event("view", "c"),
    ]
    assert likes(events, MEANINGS) == (("b", 0.3), ("c", 1.0))
    assert likes([*events, event("like", "a")], MEANINGS)[-1] == ("a", 1.0)
    many = likes([event("like", f"i{n}") for n in range(3 * LEARN_FROM)], MEANINGS)
    assert (len(many), many[-1][0]) == (LEARN_FROM, f"i{3 * LEARN_FROM - 1}")
    assert all(0 < weight <= 1 for _, weight in many)
    assert likes([], MEANINGS) == ()
