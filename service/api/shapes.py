"""Fields that may have one of several shapes, as clients send them, and the words in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator


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
