"""Everything that can go wrong, as a tree.

    WhyrankError                     500 internal ├── BadRequest                   422
    invalid_request        the caller can mend it │   ├── NotFound                 404
    {kind}_not_found       no such item, user, prompt or model │   ├── InvalidJson              400
    invalid_json           a body that can't be read │   ├── UnsupportedMedia         415
    unsupported_media_type a body that doesn't say it is JSON │   ├── Unauthorized             401
    unauthorized           no key, or one that is wrong, expired or revoked │   ├── Forbidden
    403 forbidden              a key that is for other things │   └── RateLimited              429
    rate_limited           more requests in a minute than the key may send ├── ConfigError
    500 bad_config             refused at start; names file, key and reason ├── PromptError
    500 bad_prompt             a template that can't be loaded or rendered ├── StorageError
    503 storage_unavailable    the data can't be read or written just now │   ├── CatalogBusy
    503 catalog_busy           other writers kept coming first │   ├── DiskFull                 507
    disk_full              nothing of the write is kept; reads go on │   ├── StoreDamaged
    503 store_damaged          a file of the database; says what brings it back │   └──
    CatalogDamaged           503 catalog_damaged        a file of the catalogue; says what brings it
    back └── ModelError                   503 unreachable            the language model gave no
    usable answer; never reaches a
        ├── ModelTimeout                 timeout                caller of a ranking: the ladder
        turns it into `degraded` ├── ModelOverloaded              overload ├── ModelUnreachable
        unreachable ├── ModelIncapable               no_capability ├── ModelNotAllowed
        not_allowed        this person may not be shown to it ├── ModelOverBudget
        budget             the day's money for it, or the caller's, is spent └── InvalidOutput
        invalid_output

Each class carries its `code`, HTTP `status`, whether a retry may help and after how many seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

INNER = re.compile(r"(?:function-|list\[|union\[|constrained-)|(?:str|int|float|bool)$")


def path_of(place: Iterable[int | str]) -> list[str]:
    """The names of an error's place, without pydantic's own for the shapes that a value may
    have."""
    return [str(part) for part in place if not INNER.match(str(part))]


BOUNDS = {
    "too_long": ("at most", "max_length"),
    "string_too_long": ("at most", "max_length"),
    "too_short": ("at least", "min_length"),
    "string_too_short": ("at least", "min_length"),
}
"""Of pydantic's errors about a length: how the bound is said, and where the error's context has
it."""


def reasons(error: ValidationError) -> str:
    """A validation error in one line: `field: reason; field: reason`."""
    return in_words(error.errors(include_url=False))


def in_words(errors: Sequence[ErrorDetails]) -> str:
    """The first five errors of a validation as `field: reason; field: reason`.

    A value that fits one of several types but for its length is told its limit alone, not what it
    missed of the others.
    """
    places = {".".join(path_of(error["loc"])) for error in errors if error["type"] in BOUNDS}
    told = [
        error
        for error in errors
        if error["type"] in BOUNDS or ".".join(path_of(error["loc"])) not in places
    ]
    lines = [
        f"{'.'.join(path_of(error['loc']))}: {_reason(error)}".removeprefix(": ") for error in told
    ]
    return "; ".join(lines[:5])


def _reason(error: ErrorDetails) -> str:
    """A limit is told in the unit of what is limited: characters of a text, items of a list,
    attributes of `attributes`."""
    if error["type"] not in BOUNDS:
        return error["msg"].removeprefix("Value error, ")
    bound, name = BOUNDS[error["type"]]
    count, value = error["ctx"][name], error["input"]
    unit = (
        "characters"
        if isinstance(value, str)
        else str(error["loc"][-1])
        if isinstance(value, dict)
        else "items"
    )
    return f"{bound} {count:,} {unit if count != 1 else unit.removesuffix('s')}"


class WhyrankError(Exception):
    """Base of all errors raised on purpose. `param` names the offending field or setting, if one
    does."""

    code: str = "internal"
    status: int = 500
    retryable: bool = False
    retry_after_s: int = 1

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BadRequest(WhyrankError):
    code = "invalid_request"
    status = 422


class NotFound(BadRequest):
    """Nothing goes by that name. `kind` makes the code: `NotFound("model", …)` is
    `model_not_found`."""

    code = "not_found"
    status = 404

    def __init__(self, kind: str, name: str, *, param: str | None = None, known: str = "") -> None:
        super().__init__(
            f"no {kind} {name!r}" + (f"; known: {known}" if known else ""), param=param
        )
        self.code = f"{kind}_not_found"


class InvalidJson(BadRequest):
    code = "invalid_json"
    status = 400


class UnsupportedMedia(BadRequest):
    code = "unsupported_media_type"
    status = 415


class Unauthorized(BadRequest):
    code = "unauthorized"
    status = 401


class Forbidden(BadRequest):
    code = "forbidden"
    status = 403


class RateLimited(BadRequest):
    code = "rate_limited"
    status = 429
    retryable = True

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ConfigError(WhyrankError):
    code = "bad_config"


class PromptError(WhyrankError):
    code = "bad_prompt"


class StorageError(WhyrankError):
    code = "storage_unavailable"
    status = 503
    retryable = True
    retry_after_s = 10


class CatalogBusy(StorageError):
    code = "catalog_busy"
    retry_after_s = 1


class DiskFull(StorageError):
    code = "disk_full"
    status = 507


class StoreDamaged(StorageError):
    code = "store_damaged"
    retryable = False
    retry_after_s = 60


class CatalogDamaged(StorageError):
    code = "catalog_damaged"
    retryable = False
    retry_after_s = 60


class ModelError(WhyrankError):
    """`code` is also the `degraded.reason` of the answer that had to do without the model.
    `rest_s`: so many seconds it wants to be left alone, as it said."""

    code = "unreachable"
    status = 503
    retryable = True

    def __init__(self, message: str, *, rest_s: float = 0) -> None:
        super().__init__(message)
        self.rest_s = rest_s


class ModelTimeout(ModelError):
    code = "timeout"


class ModelOverloaded(ModelError):
    code = "overload"


class ModelUnreachable(ModelError):
    code = "unreachable"


class ModelIncapable(ModelError):
    code = "no_capability"
    retryable = False


class ModelNotAllowed(ModelError):
    code = "not_allowed"
    retryable = False


class ModelOverBudget(ModelError):
    code = "budget"
    retryable = False


class InvalidOutput(ModelError):
    code = "invalid_output"
