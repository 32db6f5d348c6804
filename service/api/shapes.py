"""Reads fields that clients send in several shapes: texts, parts, documents."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from math import isfinite
from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from service.schema import Document


def either(shapes: str) -> WrapValidator:
    """A validator of a union whose error names the allowed shapes in one phrase, where pydantic
    would list what each of them missed."""

    def checked(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(f"expected {shapes}") from error

    return WrapValidator(checked)


def words_in(raw: Any) -> str:
    """The text in a string, in `{text}` or in `{content: [{text}, …]}`; empty for a picture."""
    match raw:
        case str():
            return raw
        case list():
            return "\n".join(filter(None, map(words_in, raw)))
        case Mapping():
            return words_in(raw.get("text")) or words_in(raw.get("content"))
    return ""


def own_id(raw: str | Mapping[str, Any]) -> str | None:
    """The id in a document, as `id` or `item_id`; None for none."""
    if isinstance(raw, str):
        return None
    ids = (raw.get("id"), raw.get("item_id"))
    return next((str(id_) for id_ in ids if isinstance(id_, str | int | float) and id_ != ""), None)


def document(
    raw: str | Mapping[str, Any], fields: Sequence[str] | None = None
) -> tuple[Document, bool]:
    """Makes a `Document` of what a client sent, and says whether it had to be cut because it
    exceeds a limit. A text alone may be an item's id, and then adds what the catalogue has.
    `fields`: keys of an object whose values make up its text."""
    values: dict[str, Any] = {"text": raw} if isinstance(raw, str) else _values(raw, fields or ())
    try:
        return Document.model_validate(values), False
    except ValidationError as error:
        wrong = {str(detail["loc"][0]) for detail in error.errors(include_url=False)}
        fitted = {name: FITTED[name](values[name]) for name in wrong}
        return Document.model_validate({**values, **fitted}), bool(wrong - {"id", *SHOWN_ONLY})


def _values(raw: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The values for a `Document` in an object. Fields that a document doesn't know become
    attributes."""
    title, attributes = raw.get("title"), raw.get("attributes")
    known = {"text", "content", "id", "item_id", "title", "image", "attributes", *fields}
    others = {name: value for name, value in raw.items() if name not in known and _plain(value)}
    return {
        "id": own_id(raw),
        "title": title if isinstance(title, str) and "title" not in fields else "",
        "text": "\n".join(words_in(raw[name]) for name in fields if raw.get(name))
        if fields
        else words_in(raw),
        "attributes": {**others, **(attributes if isinstance(attributes, dict) else {})},
        **{name: raw.get(name) for name in SHOWN_ONLY},
    }


SHOWN_ONLY = ("url", "image_url", "published_at")
"""Parts of a document that don't influence its rank; they are given back if `fields` asks for
them."""
LONGEST_TITLE, LONGEST_TEXT, LONGEST_KEY, LONGEST_VALUE = 4_000, 1_000_000, 64, 4_000
MOST_VALUES = 100
"""Limits of a `Document`: characters, and number of attributes."""


def _fitting(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that a document may have, with texts cut to the allowed length."""
    short = (
        (name, list(map(_short, value)) if isinstance(value, list) else _short(value))
        for name, value in attributes.items()
        if 0 < len(name) <= LONGEST_KEY and _plain(value)
    )
    return dict(islice(short, MOST_VALUES))


def _short(value: Any) -> Any:
    return value[:LONGEST_VALUE] if isinstance(value, str) else value


FITTED: dict[str, Callable[[Any], Any]] = {
    "id": lambda _: None,
    "title": lambda title: title[:LONGEST_TITLE],
    "text": lambda text: text[:LONGEST_TEXT],
    "attributes": _fitting,
    **dict.fromkeys(SHOWN_ONLY, lambda _: None),
}
"""By field of a document, what makes a value fit that exceeds the limits."""


def _plain(value: Any) -> bool:
    """Whether a value can be an attribute: a text, a number, a truth value, or a list of these."""
    return all(map(_scalar, value)) if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and isfinite(value))


def by_field(schema: dict[str, Any]) -> None:
    """Adds an example to a model's schema, made of the first example of each field. For
    `json_schema_extra`."""
    schema["examples"] = [
        {
            name: field["examples"][0]
            for name, field in schema["properties"].items()
            if "examples" in field
        }
    ]
