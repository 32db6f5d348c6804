"""A caller's own shape: what it may ask for, what it costs, and that nothing false is said in
it."""

import datetime as dt
from typing import Any, Literal

import pytest
from pydantic import BaseModel, PositiveInt

from service.chat.shape import PARTS, check, filled
from service.errors import BadRequest

PICKS: list[dict[str, Any]] = [
    {
        "rank": 1,
        "item_id": "heat",
        "title": "Heat",
        "genre": ["Action", "Crime"],
        "year": 1995,
        "reason": None,
    },
    {
        "rank": 2,
        "item_id": "amelie",
        "title": "Amélie",
        "genre": ["Comedy", "Romance"],
        "year": 2001,
        "reason": None,
    },
]


def told(schema: dict[str, Any]) -> Any:
    check(schema)
    return filled(schema, "Here.", PICKS)


DOUBLING = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {
    "d40": {"type": "null"}
}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (
            {"type": "string", "not": {"properties": {"a": {"pattern": "^(a+)+$"}}}},
            "pattern is not supported",
        ),
        ({"type": "object", "propertyNames": {"pattern": "^(a+)+$"}}, "pattern is not supported"),
        (
            {"const": 1, "items": [{"patternProperties": {"^(a+)+$": True}}]},
            "patternProperties is not supported",
        ),
        ({"const": [{"a": 0}] * PARTS, "uniqueItems": True}, "more than 3000 parts"),
        (
            {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(PARTS)}},
            "more than 3000 parts",
        ),
        (
            {"const": 1, "not": {"not": {"$ref": "#/$defs/d0"}}, "$defs": DOUBLING},
            "more than 20000 steps",
        ),
        ({"const": int("1" + "0" * 400), "multipleOf": 0.5}, "no answer of ours fits"),
        ({"const": [1, 1], "uniqueItems": True}, "not unique"),
        (
            {"type": "object", "properties": {"released": {"type": "string", "format": "date"}}},
            "no date is known; allow null",
        ),
        (
            {
                "type": "array",
                "items": {"type": "object", "properties": {"genre": {"enum": ["Opera"]}}},
            },
            "allow null",
        ),
    ],
)
def test_a_shape_that_costs_too_much_or_would_lie_is_refused(
    schema: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadRequest, match=f"response_format: .*{why}"):
        told(schema)


def test_a_field_may_be_called_pattern() -> None:
    schema = {
        "type": "object",
        "properties": {"pattern": {"type": "string"}, "title": {"enum": ["pattern", "Heat"]}},
    }
    assert told(schema) == {"pattern": "", "title": "Heat"}


class Film(BaseModel):
    title: str
    genre: Literal["comedy", "horror", "crime"]
    votes: PositiveInt
    released: dt.date | None


class Films(BaseModel):
    films: list[Film]
    titles: set[str]
    first: Literal["Opera", None]


def test_what_is_said_in_a_shape_is_known_or_says_nothing() -> None:
    found = Films.model_validate(told(Films.model_json_schema()))
    assert [(film.title, film.genre, film.votes, film.released) for film in found.films] == [
        ("Heat", "crime", 1, None),
        ("Amélie", "comedy", 1, None),
    ]
    assert found.titles == {"Heat", "Amélie"}
    assert found.first is None


def test_a_pick_that_the_shape_has_no_word_for_is_left_out() -> None:
    schema = {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"title": {}, "genre": {"enum": ["Comedy", "Horror"]}},
        },
    }
    assert [film["genre"] for film in told(schema)] == ["Comedy"]
    other = {"enum": ["Horror", "Other"]}
    assert (
        told({"type": "array", "items": {"type": "object", "properties": {"genre": other}}})
        == [{"genre": "Other"}] * 2
    )


@pytest.mark.parametrize(
    ("kind", "bounds", "number"),
    [
        ("integer", {"exclusiveMinimum": 0}, 1),
        ("integer", {"exclusiveMaximum": 0}, -1),
        ("integer", {"minimum": 3, "maximum": 5}, 3),
        ("number", {"exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ("number", {"exclusiveMinimum": 2}, 3),
    ],
)
def test_numbers_keep_their_bounds(kind: str, bounds: dict[str, float], number: float) -> None:
    assert told({"type": kind, **bounds}) == number
