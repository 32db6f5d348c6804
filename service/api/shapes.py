"""Fields that may have one of several shapes, as clients send them."""

from __future__ import annotations

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
