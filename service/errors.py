"""Everything that can go wrong, as a tree.

    WhyrankError             500 internal
    ├── BadRequest           422 invalid_request         the caller can mend it
    │   ├── NotFound         404 {kind}_not_found        no such item, user, prompt or model
    │   ├── InvalidJson      400 invalid_json            a body that can't be read
    │   ├── UnsupportedMedia 415 unsupported_media_type  a body that doesn't say it is JSON
    │   ├── Unauthorized     401 unauthorized            no key, or a wrong, expired or revoked one
    │   ├── Forbidden        403 forbidden               a key that is for other things
    │   └── RateLimited      429 rate_limited            more requests a minute than allowed
    ├── ConfigError          500 bad_config              refused at start; names file, key, reason
    ├── PromptError          500 bad_prompt              a template can't be loaded or rendered
    ├── StorageError         503 storage_unavailable     the data can't be read or written just now
    │   ├── CatalogBusy      503 catalog_busy            other writers kept coming first
    │   ├── DiskFull         507 disk_full               nothing is written; reads go on
    │   ├── StoreDamaged     503 store_damaged           a file of the database is damaged
    │   └── CatalogDamaged   503 catalog_damaged         a file of the catalogue is damaged
    └── ModelError           503 unreachable             no usable answer from the language model
        ├── ModelTimeout         timeout
        ├── ModelOverloaded      overload
        ├── ModelUnreachable     unreachable
        ├── ModelIncapable       no_capability
        ├── ModelNotAllowed      not_allowed             this person may not be shown to it
        ├── ModelOverBudget      budget                  the day's budget or the caller's is spent
        └── InvalidOutput        invalid_output

A `ModelError` never reaches the caller of a ranking: a simpler strategy answers, and its code
becomes the answer's `degraded.reason`. The message of a damaged file says what brings it back.
Each class carries its `code`, HTTP `status`, and after how many seconds a retry may help.
"""

import re
from collections.abc import Iterable, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

TYPE_NAME = re.compile(r"(?:function-|list\[|union\[|constrained-)|(?:str|int|float|bool)$")


def path_of(place: Iterable[int | str]) -> str:
    """The keys and indexes that lead to an error, joined by dots, without the names that pydantic
    adds for each type of a union."""
    return ".".join(str(part) for part in place if not TYPE_NAME.match(str(part)))


BOUNDS = {
    "too_long": ("at most", "max_length"),
    "string_too_long": ("at most", "max_length"),
    "too_short": ("at least", "min_length"),
    "string_too_short": ("at least", "min_length"),
}
"""By pydantic's type of an error about a length: the words before the bound, and the bound's key in
the error's context."""


def reasons(error: ValidationError) -> str:
    """A validation error in one line: `field: reason; field: reason`."""
    return in_words(error.errors(include_url=False))


def in_words(errors: Sequence[ErrorDetails]) -> str:
    """Returns the first five errors of a validation as `field: reason; field: reason`.

    If a value may be of several types and breaks the length limit of one, only the limit is named,
    not why the value is none of the other types.
    """
    placed = [(path_of(error["loc"]), error) for error in errors]
    places_of_limits = {place for place, error in placed if error["type"] in BOUNDS}
    lines = [
        f"{place}: {_reason(error)}".removeprefix(": ")
        for place, error in placed
        if error["type"] in BOUNDS or place not in places_of_limits
    ]
    return "; ".join(lines[:5])


def _reason(error: ErrorDetails) -> str:
    """Returns an error's message. A length limit has a unit: characters of a text, items of a list,
    or, for an object, the name of its field, as attributes."""
    if error["type"] not in BOUNDS:
        return error["msg"].removeprefix("Value error, ")
    bound, name = BOUNDS[error["type"]]
    count, value = error["ctx"][name], error["input"]
    if isinstance(value, str):
        unit = "characters"
    else:
        unit = str(error["loc"][-1]) if isinstance(value, dict) else "items"
    return f"{bound} {count:,} {unit if count != 1 else unit.removesuffix('s')}"


class WhyrankError(Exception):
    """Base of all errors raised on purpose. `param` names the offending field or setting, if there
    is one. A subclass sets `code`, `status` and `retry_after_s` as class arguments, and inherits
    those that it leaves out."""

    code: str = "internal"
    status: int = 500
    retry_after_s: int = 1

    def __init_subclass__(
        cls, code: str | None = None, status: int | None = None, retry_after_s: int | None = None
    ) -> None:
        cls.code = code or cls.code
        cls.status = status or cls.status
        cls.retry_after_s = retry_after_s or cls.retry_after_s

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BadRequest(WhyrankError, code="invalid_request", status=422):
    """The request is wrong, and the caller can mend it."""


def check_limit(field: str, size: int, most: int, setting: str, unit: str = "") -> None:
    """Raises `BadRequest` for a field that is larger than a setting of `limits` allows."""
    if size > most:
        raise BadRequest(f"{field}: at most {most}{unit} (limits.{setting})", param=field)


class NotFound(BadRequest, code="not_found", status=404):
    """Nothing has that name. The code comes from `kind`: `NotFound("model", …)` has
    `model_not_found`."""

    def __init__(self, kind: str, name: str, *, param: str | None = None, known: str = "") -> None:
        super().__init__(
            f"no {kind} {name!r}" + (f"; known: {known}" if known else ""), param=param
        )
        self.code = f"{kind}_not_found"


class InvalidJson(BadRequest, code="invalid_json", status=400):
    """The request's body is not JSON."""


class UnsupportedMedia(BadRequest, code="unsupported_media_type", status=415):
    """The request's body is not declared as JSON."""


class Unauthorized(BadRequest, code="unauthorized", status=401):
    """The request has no API key, or a wrong, expired or revoked one."""


class Forbidden(BadRequest, code="forbidden", status=403):
    """The request's API key lacks the scope that is needed."""


class RateLimited(BadRequest, code="rate_limited", status=429):
    """The caller sent more requests a minute than allowed."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ConfigError(WhyrankError, code="bad_config"):
    """The configuration is refused; the message names file, key and reason."""


class PromptError(WhyrankError, code="bad_prompt"):
    """A template can't be loaded or rendered."""


class StorageError(WhyrankError, code="storage_unavailable", status=503, retry_after_s=10):
    """The data can't be read or written just now."""


class CatalogBusy(StorageError, code="catalog_busy", retry_after_s=1):
    """The catalogue could not be written: other writers kept coming first."""


class DiskFull(StorageError, code="disk_full", status=507):
    """The disk is full: writes are refused, reads go on."""


class StoreDamaged(StorageError, code="store_damaged", retry_after_s=60):
    """A file of the database is damaged."""


class CatalogDamaged(StorageError, code="catalog_damaged", retry_after_s=60):
    """A file of the catalogue is damaged."""


class ModelError(WhyrankError, code="unreachable", status=503):
    """The language model gave no usable answer. `code` is also the `degraded.reason` of the ranking
    that had to do without the model. `rest_s`: how many seconds the model's server asked us to wait
    before the next call."""

    def __init__(self, message: str, *, rest_s: float = 0) -> None:
        super().__init__(message)
        self.rest_s = rest_s


class ModelTimeout(ModelError, code="timeout"):
    """No answer in time."""


class ModelOverloaded(ModelError, code="overload"):
    """The server has too much to do."""


class ModelUnreachable(ModelError):
    """The server can't be reached, or answers with an error of its own."""


class ModelIncapable(ModelError, code="no_capability"):
    """The model can't do what is asked of it."""


class ModelNotAllowed(ModelError, code="not_allowed"):
    """This person's data may not be shown to the model."""


class ModelOverBudget(ModelError, code="budget"):
    """The day's budget or the caller's is spent."""


class InvalidOutput(ModelError, code="invalid_output"):
    """The model's answer can't be used."""
