from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.schema import Event, Item, RecommendRequest


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 257, "..", "\ud800", "a\u2028b", None, 3])
def test_an_id_that_could_read_another_route_or_break_a_log_is_refused(bad: object) -> None:
    with pytest.raises(ValidationError):
        Item.model_validate({"id": bad})


@pytest.mark.parametrize(
    "bad",
    [1_700_000_000, "1700000000", "2026-01-01T00:00:00", "yesterday", True, 1e20, float("nan")],
)
def test_a_time_without_zone_or_in_another_unit_is_refused(bad: object) -> None:
    with pytest.raises(ValidationError):
        Event.model_validate({"user_id": "u", "type": "click", "occurred_at": bad})


def test_epoch_milliseconds_and_any_zone_mean_the_same_moment() -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=8))).isoformat()
    for given_as in (
        moment.isoformat(),
        elsewhere,
        int(moment.timestamp() * 1000),
        str(int(moment.timestamp() * 1000)),
    ):
        assert (
            Event.model_validate(
                {"user_id": "u", "type": "click", "occurred_at": given_as}
            ).occurred_at
            == moment
        )


def test_a_missing_event_id_is_a_hash_of_what_happened() -> None:
    row = {"user_id": "u", "type": "click", "item_id": "i", "occurred_at": 1_700_000_000_000}
    assert Event.model_validate(row).event_id == Event.model_validate(row).event_id
    assert Event.model_validate(row).event_id != Event.model_validate(row | {"value": 2}).event_id


def test_an_event_of_nobody_is_refused() -> None:
    with pytest.raises(ValidationError, match="user_id"):
        Event.model_validate({"type": "click", "item_id": "i"})


@given(
    st.dictionaries(
        st.text(), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.floats()))
    )
)
def test_any_body_is_a_request_or_a_validation_error(body: dict[str, object]) -> None:
    with suppress(ValidationError):
        RecommendRequest.model_validate(body)


def test_filters_with_given_candidates_are_refused() -> None:
    with pytest.raises(ValidationError, match="nothing to retrieve"):
        RecommendRequest.model_validate({"candidates": ["a"], "filters": {"year": {"gt": 1}}})
