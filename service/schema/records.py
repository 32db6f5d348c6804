"""The base class of all nouns and the types of their fields; and what is stored: items, the people
they are ranked for, what those did, and keys; and what became of a batch of them."""

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")
"""Characters of Unicode's categories Cc, Zl and Zp."""
LONGEST_ID = 256
"""Characters."""
Feed = Literal["items", "users", "events"]
Shape = Literal["gorse", "metarank", "personalize"]
"""The systems whose row formats are understood."""
MAX_RATE = 100_000
"""Requests a minute. The limiter keeps the time of every request of the last minute."""
KeyScope = Literal["read", "write", "admin"]


class Value(
    BaseModel,
    frozen=True,
    extra="forbid",
    ser_json_inf_nan="constants",
    use_attribute_docstrings=True,
):
    """A frozen noun that refuses unknown fields. The docstring under a field is its description in
    OpenAPI."""


def _check_encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is not text") from None
    return text


def _check_id(text: str) -> str:
    if _check_encodable(text) in {".", ".."}:
        raise ValueError(
            "an id may not be '.' or '..': in a path, browsers and proxies take them for folders"
        )
    if CONTROL.search(text):
        raise ValueError("an id may not hold control characters")
    return text


def _parse_epoch(value: object) -> object:
    """Epoch milliseconds, as a number or in digits, as a datetime; anything else as it is."""
    if isinstance(value, str) and value.lstrip("-").isdigit():
        value = int(value)
    if isinstance(value, bool):
        raise ValueError("a time is RFC 3339 with a zone, or epoch milliseconds")
    if isinstance(value, int | float):
        if not 1e11 <= value < 1e14:
            raise ValueError(
                "epoch milliseconds expected (13 digits today); this looks like another unit"
            )
        return datetime.fromtimestamp(value / 1000, UTC)
    return value


def _convert_to_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a zone, as in 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time between the years 1 and 9999 expected, in UTC too") from None


Id = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_ID), AfterValidator(_check_id)
]
Text = Annotated[str, AfterValidator(_check_encodable)]
Moment = Annotated[datetime, BeforeValidator(_parse_epoch), AfterValidator(_convert_to_utc)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z0-9_.:-]+$")]
Locale = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*$")]
Scalar = StrictBool | StrictInt | FiniteFloat | Annotated[Text, StringConstraints(max_length=4_000)]
Key = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=100)]
Attributes = dict[Key, Scalar | list[Scalar]]
AttributesIn = Annotated[Attributes, Field(max_length=100)]
Fact = tuple[str, str | int | float | bool]
"""A key of an item's attributes and one of its values."""


class Content(Value):
    """What items and a caller's documents have in common."""

    id: Id | None = None
    """The caller's own."""
    title: Annotated[Text, StringConstraints(max_length=4_000)] = ""
    """What people call it."""
    text: Annotated[Text, StringConstraints(max_length=1_000_000)] = ""
    """More words about it: searched, and shown to a model."""
    attributes: AttributesIn = {}
    """What is known of it, by name. Filters go by those in `catalog.filterable`."""
    url: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    """Where it is; kept and given back."""
    image_url: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    """A picture of it; kept and given back."""
    published_at: Moment | None = None
    """When it appeared: a time with a zone, or epoch milliseconds."""


class Item(
    Content,
    json_schema_extra={
        "examples": [
            {
                "id": "181",
                "title": "Return of the Jedi",
                "attributes": {"year": 1983, "genre": ["Action", "Sci-Fi"]},
            }
        ]
    },
):
    """Something that can be shown: a film, a product, a song, a person."""

    id: Id
    """The caller's own."""
    text: Annotated[Text, StringConstraints(max_length=100_000)] = ""
    """More words about it: searched, and shown to a model."""
    available: bool = True
    """False: kept, and never shown."""

    def facts(self) -> list[Fact]:
        """(key, value) of every attribute; a list gives one pair per element."""
        return [
            (key, element)
            for key, value in self.attributes.items()
            for element in (value if isinstance(value, list) else [value])
        ]


class User(
    Value,
    json_schema_extra={
        "examples": [
            {"user_id": "127", "attributes": {"age": 33, "likes": ["Sci-Fi"]}, "locale": "en"}
        ]
    },
):
    """What a person declared."""

    user_id: Id
    """The caller's own."""
    attributes: AttributesIn = {}
    """What they declared, by name; before their first event it stands for their taste."""
    locale: Locale | None = None
    """Language of what they read, as `de` or `pt-BR`; null: the prompts' own."""
    allow_hosted: bool = True
    """May a hosted model see them?"""
    profile: bool = True
    """May a model write a profile of them?"""


class UserPatch(Value, json_schema_extra={"examples": [{"locale": "de", "allow_hosted": False}]}):
    """Only the fields that are given change."""

    attributes: AttributesIn | None = None
    """Replaces the whole dictionary."""
    locale: Locale | None = None
    """As `de` or `pt-BR`; null takes it away."""
    allow_hosted: bool | None = None
    """May a hosted model see them?"""
    profile: bool | None = None
    """May a model write a profile of them?"""


class Event(
    Value,
    json_schema_extra={
        "examples": [
            {
                "user_id": "127",
                "item_id": "181",
                "type": "rating",
                "value": 5,
                "occurred_at": "2026-01-31T12:00:00Z",
            }
        ]
    },
):
    """One thing done by a person, or by a visitor who is known by `session_id` alone."""

    event_id: Id = ""
    """The caller's own: sent again, it changes nothing. Absent: made of who, type, item, time and
    value."""
    user_id: Id | None = None
    """Who did it; absent: a visitor, known by `session_id`."""
    item_id: Id | None = None
    """With which item, which the catalogue may come to know later."""
    type: Label
    """What was done, as `play`, `like` or `rating`; what a type says is configuration."""
    value: FiniteFloat | None = None
    """How much, as the stars of a rating."""
    text: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    """In words, as what was searched for."""
    occurred_at: Moment = Field(default_factory=lambda: datetime.now(UTC))
    """When: with a zone, or in epoch milliseconds; absent: now."""
    session_id: Id | None = None
    """In which visit."""
    ranking_id: Id | None = None
    """The ranking that showed the item."""
    position: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """The item's place in it, from 0."""

    @model_validator(mode="before")
    @classmethod
    def _drop_null_id(cls, data: Any) -> Any:
        """Treats a null `event_id` as absent; an id of the wrong type is still refused."""
        if isinstance(data, dict) and "event_id" in data and data["event_id"] is None:
            return {key: value for key, value in data.items() if key != "event_id"}
        return data

    @model_validator(mode="after")
    def _set_id(self) -> Self:
        """Gives an event without an id one made of its content, so that it counts once however
        often it is sent."""
        if self.user_id is None and self.session_id is None:
            raise ValueError("an event needs a user_id, or a session_id for a visitor without one")
        if not self.event_id:
            who = self.user_id if self.user_id is not None else f"\x1f{self.session_id}"
            parts = (who, self.type, self.item_id, self.occurred_at.isoformat(), self.value)
            digest = hashlib.sha256("\x1e".join(map(repr, parts)).encode()).hexdigest()
            object.__setattr__(self, "event_id", digest[:32])
        return self


class Meaning(Value):
    """What an event of one type says of its item.

    `weight` in [-1, 1]: how much the item is liked (negative: disliked). `half_life_days`: after so
    many days the weight counts half. `consumes`: the item is not recommended again; with
    `repeat_after`, not for so many days, as for goods that are bought again. `blocks`, `unblocks`:
    the item is never recommended, or may be again. `takes_back`: the event type whose earlier
    events of this item no longer consume it. `verb`: how prompts and reasons say it, in English or
    by language (`{en: rented, de: "hast {} geliehen"}`); `{}` is the title, which else stands at
    the end, and what is in square brackets is said only of an event with a value: `rated {}[
    {value}]`.

    If the event carries a value, as stars, the value decides the sign: `weight` from
    `positive_from` upwards, `-weight` down from `negative_to`, 0 between them. `scale`: the lowest
    and the highest value. With a scale, `positive_from` defaults to three quarters of it and
    `negative_to` to a quarter (of 1 to 5 stars: 4 and 2).
    """

    weight: float = Field(0, ge=-1, le=1)
    half_life_days: float = Field(90, gt=0)
    consumes: bool = False
    repeat_after: float | None = Field(None, gt=0, le=36_500)
    blocks: bool = False
    unblocks: bool = False
    takes_back: Label | None = None
    scale: tuple[float, float] | None = None
    positive_from: float | None = None
    negative_to: float | None = None
    verb: str | dict[Locale, str] = ""

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError("scale: the lowest value, then the highest, as [1, 5]")
        return self

    @property
    def liked_from(self) -> float | None:
        """The value from which on an event says that its item is liked; None: whatever its
        value."""
        return self._threshold(self.positive_from, 0.75)

    @property
    def disliked_to(self) -> float | None:
        """The value up to which an event says that its item is disliked; None: at no value."""
        return self._threshold(self.negative_to, 0.25)

    def _threshold(self, configured: float | None, share: float) -> float | None:
        """The configured threshold, else the value at this share of the scale; None if there is no
        scale either."""
        if configured is not None or self.scale is None:
            return configured
        return self.scale[0] + share * (self.scale[1] - self.scale[0])

    @property
    def verbs(self) -> dict[str, str]:
        """The verb by language."""
        if isinstance(self.verb, dict):
            return self.verb
        return {"en": self.verb} if self.verb else {}

    @property
    def plain_verb(self) -> str:
        """The English verb without the places of its title and value; may be empty."""
        said = re.sub(r"\[.*?\]", "", self.verbs.get("en", ""))
        return " ".join(said.replace("{}", " ").split())

    def opinion(self, value: float | None) -> float:
        """What an event of this type and value says of its item, in [-1, 1]."""
        if value is None or self.liked_from is None or value >= self.liked_from:
            return self.weight
        return -self.weight if self.disliked_to is not None and value <= self.disliked_to else 0.0

    def over(self, base: Self) -> Self:
        """The fields that were set on this meaning; the rest from `base`."""
        return base.model_copy(update=self.model_dump(exclude_unset=True))


class ApiKey(Value):
    """Who may call, for what, how often and until when; without the secret. `rate`: requests a
    minute (None: `limits.rate`); `budget`: US dollars a day that models may cost for its requests
    (None: unlimited)."""

    key_id: str = Field(default_factory=lambda: secrets.token_hex(6))
    name: Id
    scopes: tuple[KeyScope, ...] = Field(min_length=1)
    rate: int | None = Field(None, ge=1, le=MAX_RATE)
    budget: float | None = Field(None, ge=0)
    created_at: Moment = Field(default_factory=lambda: datetime.now(UTC))
    expires_at: Moment | None = None
    revoked_at: Moment | None = None

    def allows(self, scope: KeyScope) -> bool:
        """Whether the key has this scope; `admin` includes all."""
        return scope in self.scopes or "admin" in self.scopes

    def valid(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Rejection(Value):
    """Why an element of a batch was not taken."""

    index: int
    """Its place in the batch, from 0."""
    code: str
    """A code for programs, as `invalid`."""
    message: str
    """The field, and what is wrong with it."""


class IngestReport(Value):
    """What became of a batch."""

    accepted: int = 0
    """How many were taken."""
    duplicates: int = 0
    """How many were known already and changed nothing."""
    rejected: list[Rejection] = []
    """Those that were not taken, and why."""
    warnings: list[str] = []
    """What was taken, but perhaps not as it was meant, in words."""


class ForeignReport(IngestReport):
    """What became of a batch in another system's row format. One foreign row may become several of
    ours: `accepted` and `duplicates` count ours, indexes of `rejected` count foreign rows.
    `skipped`: how many foreign rows hold nothing for the feed."""

    skipped: int = 0
