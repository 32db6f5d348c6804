"""Fields that may have one of several shapes, as clients send them, and the words in them; what OpenAPI shows of a body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from service.errors import BadRequest, reasons
from service.schema import Document


def either(told: str) -> WrapValidator:
    """For a union: what it may be, in one phrase, instead of what each of its shapes missed, in the validator's own words."""

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


def document(given: str | Mapping[str, Any], place: int, fields: list[str] | None = None) -> Document:
    """A bare text may be an id of the catalogue: its text is then what the catalogue knows. Raises `BadRequest`, naming the
    place."""
    try:
        if isinstance(given, str):
            return Document(text=given)
        text = "\n".join(words_in(given[name]) for name in fields if given.get(name)) if fields else words_in(given)
        item_id = given.get("id", given.get("item_id"))
        title = given.get("title")
        taken = {"text", "content", "id", "item_id", "title", "image", "attributes", *(fields or ())}
        more = {name: value for name, value in given.items() if name not in taken and _plain(value)}
        attributes = given.get("attributes") if isinstance(given.get("attributes"), dict) else {}
        return Document(
            id=None if item_id is None else str(item_id),
            title=title if isinstance(title, str) and "title" not in (fields or ()) else "",
            text=text,
            attributes={**more, **(attributes or {})},
        )
    except ValidationError as error:
        raise BadRequest(f"documents.{place}: {reasons(error)}", param=f"documents.{place}") from error


def _plain(value: Any) -> bool:
    """Can it be an attribute?"""
    return all(map(_scalar, value)) if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def by_field(schema: dict[str, Any]) -> None:
    """Give a model's schema an example, made of the first of each of its fields. For `json_schema_extra`."""
    fields = schema["properties"].items()
    schema["examples"] = [{name: field["examples"][0] for name, field in fields if "examples" in field}]
