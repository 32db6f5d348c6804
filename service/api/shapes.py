"""Fields that may have one of several shapes, as clients send them, and the words in them; what
OpenAPI shows of a body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from service.schema import Document


def either(told: str) -> WrapValidator:
    """For a union: what it may be, in one phrase, instead of what each of its shapes missed, in the
    validator's own words."""

    def checked(value: Any, shapes: ValidatorFunctionWrapHandler) -> Any:
        try:
            return shapes(value)
        except ValidationError as error:
            raise ValueError(f"expected {told}") from error

    return WrapValidator(checked)


def words_in(given: Any) -> str:
    """The words in a string, a `{text}`, a `{content: [{text}, …]}`; "" for a picture."""
    if isinstance(given, str):
        return given
    if isinstance(given, list):
        return "\n".join(filter(None, map(words_in, given)))
    if isinstance(given, Mapping):
        return words_in(given.get("text")) or words_in(given.get("content"))
    return ""


def own_id(given: str | Mapping[str, Any]) -> str | None:
    """The id that a document comes with, whatever it holds."""
    if isinstance(given, str):
        return None
    named = (
        one for one in (given.get("id"), given.get("item_id")) if isinstance(one, str | int | float)
    )
    return next((str(one) for one in named if one != ""), None)


def document(
    given: str | Mapping[str, Any],
    place: int,
    fields: list[str] | None = None,
    cut: list[int] | None = None,
) -> Document:
    """A bare text may be an id of the catalogue: its text is then what the catalogue knows. Of what
    a document may not hold it keeps what it may, and its place is added to `cut`."""
    if isinstance(given, str):
        said: dict[str, Any] = {"text": given}
    else:
        text = (
            "\n".join(words_in(given[name]) for name in fields if given.get(name))
            if fields
            else words_in(given)
        )
        title = given.get("title")
        taken = {
            "text",
            "content",
            "id",
            "item_id",
            "title",
            "image",
            "attributes",
            *(fields or ()),
        }
        more = {name: value for name, value in given.items() if name not in taken and _plain(value)}
        attributes = given.get("attributes") if isinstance(given.get("attributes"), dict) else {}
        said = {
            "id": own_id(given),
            "title": title if isinstance(title, str) and "title" not in (fields or ()) else "",
            "text": text,
            "attributes": {**more, **(attributes or {})},
            **{name: given.get(name) for name in SHOWN_ONLY},
        }
    try:
        return Document.model_validate(said)
    except ValidationError as error:
        wrong = {
            str(part["loc"][0]) for part in error.errors(include_url=False, include_input=False)
        }
        if cut is not None and wrong - {"id", *SHOWN_ONLY}:
            cut.append(place)
        return Document.model_validate(
            {**said, **{name: FITTED[name](said[name]) for name in wrong}}
        )


SHOWN_ONLY = ("url", "image_url", "published_at")
"""Parts of a document that no ranking goes by: they are given back where `fields` asks for them."""
LONGEST_TITLE, LONGEST_TEXT, LONGEST_KEY, LONGEST_VALUE, MOST_VALUES = (
    4_000,
    1_000_000,
    64,
    4_000,
    100,
)
"""What a `Document` may hold."""


def _fitting(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that an item may have, with no longer words than it may have."""
    plain = {
        name: value
        for name, value in attributes.items()
        if 0 < len(name) <= LONGEST_KEY and _plain(value)
    }
    short = {
        name: [_short(one) for one in value] if isinstance(value, list) else _short(value)
        for name, value in plain.items()
    }
    return dict(list(short.items())[:MOST_VALUES])


def _short(value: Any) -> Any:
    return value[:LONGEST_VALUE] if isinstance(value, str) else value


FITTED: dict[str, Callable[[Any], Any]] = {
    "id": lambda _: None,
    "title": lambda title: title[:LONGEST_TITLE],
    "text": lambda text: text[:LONGEST_TEXT],
    "attributes": _fitting,
    **dict.fromkeys(SHOWN_ONLY, lambda _: None),
}
"""What is left of a document's part that it may not hold as it came."""


def _plain(value: Any) -> bool:
    """Can it be an attribute?"""
    return all(map(_scalar, value)) if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and isfinite(value))


def by_field(schema: dict[str, Any]) -> None:
    """Give a model's schema an example, made of the first of each of its fields. For
    `json_schema_extra`."""
    fields = schema["properties"].items()
    schema["examples"] = [
        {name: field["examples"][0] for name, field in fields if "examples" in field}
    ]
