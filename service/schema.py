"""The nouns. Frozen values that every room speaks in.

Ids are the caller's opaque strings: 1–256 characters, no control characters, and neither `.` nor
`..`. Times carry a zone. Scores lie in (0, 1) and fall strictly.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

MIN_GAP = 1e-6
"""Scores of neighbours in a ranking differ by at least this much."""
CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")
"""Characters of Unicode's categories Cc, Zl and Zp."""
MAX_RATE = 100_000
"""Requests a minute; each of the last minute is remembered."""


class Value(BaseModel):
    """A frozen noun that refuses fields it doesn't know; the words under a field are its
    description in OpenAPI."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="constants", use_attribute_docstrings=True
    )


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is not text") from None
    return text


def _opaque(text: str) -> str:
    if _encodable(text) in {".", ".."}:
        raise ValueError(
            "an id may not be '.' or '..': in a path, browsers and proxies take them for folders"
        )
    if CONTROL.search(text):
        raise ValueError("an id may not hold control characters")
    return text


def _moment(value: object) -> object:
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


def _zoned(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a zone, as in 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time between the years 1 and 9999 expected, in UTC too") from None


LONGEST_ID = 256
"""Characters."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID), AfterValidator(_opaque)]
Text = Annotated[str, AfterValidator(_encodable)]
Moment = Annotated[datetime, BeforeValidator(_moment), AfterValidator(_zoned)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z0-9_.:-]+$")]
Locale = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*$")]
Scalar = StrictBool | StrictInt | FiniteFloat | Annotated[Text, StringConstraints(max_length=4_000)]
Key = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=100)]
Attributes = dict[Key, Scalar | list[Scalar]]
AttributesIn = Annotated[Attributes, Field(max_length=100)]
Fact = tuple[str, str | int | float | bool]


# ── items, users, events ──────────────────────────────────────────────────────────────────────────


class Item(Value):
    """Something that can be shown: a film, a product, a song, a person."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "181",
                    "title": "Return of the Jedi",
                    "attributes": {"year": 1983, "genre": ["Action", "Sci-Fi"]},
                }
            ]
        }
    )

    id: Id
    """The caller's own."""
    title: Annotated[Text, StringConstraints(max_length=4_000)] = ""
    """What people call it."""
    text: Annotated[Text, StringConstraints(max_length=100_000)] = ""
    """More words about it: searched, and shown to a model."""
    attributes: AttributesIn = {}
    """What is known of it, by name. Filters go by those in `catalog.filterable`."""
    url: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    """Where it is; kept and given back."""
    image_url: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    """A picture of it; kept and given back."""
    published_at: Moment | None = None
    """When it appeared: a time with a zone, or epoch milliseconds."""
    available: bool = True
    """False: kept, and never shown."""

    def facts(self) -> list[Fact]:
        """(key, value) of every attribute, lists taken apart."""
        return [
            (key, part)
            for key, value in self.attributes.items()
            for part in (value if isinstance(value, list) else [value])
        ]


class User(Value):
    """What a person declared."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "127", "attributes": {"age": 33, "likes": ["Sci-Fi"]}, "locale": "en"}
            ]
        }
    )

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


class UserPatch(Value):
    """Only the fields that are given change."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"locale": "de", "allow_hosted": False}]}
    )

    attributes: AttributesIn | None = None
    """Replaces the whole dictionary."""
    locale: Locale | None = None
    """As `de` or `pt-BR`; null takes it away."""
    allow_hosted: bool | None = None
    """May a hosted model see them?"""
    profile: bool | None = None
    """May a model write a profile of them?"""


class Event(Value):
    """One thing a person did, or a visitor known by `session_id` alone."""

    model_config = ConfigDict(
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
        }
    )

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
    def _given_id_is_checked(cls, data: Any) -> Any:
        if isinstance(data, dict) and "event_id" in data and data["event_id"] is None:
            return {key: value for key, value in data.items() if key != "event_id"}
        return data

    @model_validator(mode="after")
    def _identified(self) -> Event:
        if self.user_id is None and self.session_id is None:
            raise ValueError("an event needs a user_id, or a session_id for a visitor without one")
        if not self.event_id:
            who = self.user_id if self.user_id is not None else f"\x1f{self.session_id}"
            parts = (who, self.type, self.item_id, self.occurred_at.isoformat(), self.value)
            digest = hashlib.sha256("\x1e".join(map(repr, parts)).encode()).hexdigest()
            object.__setattr__(self, "event_id", digest[:32])
        return self


class Rejection(Value):
    """Why an element of a batch was not taken."""

    index: int
    """Its place in the batch, from 0."""
    code: str
    """For programs, as `invalid`."""
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


Feed = Literal["items", "users", "events"]
Shape = Literal["gorse", "metarank", "personalize"]
"""Whose rows these are."""


class ForeignReport(IngestReport):
    """Counts are of our rows, indexes of the foreign ones: one of theirs may become several of
    ours. `skipped`: foreign rows that hold nothing for the feed."""

    skipped: int = 0


class Meaning(Value):
    """What an event of one type says of its item.

    `weight` in [-1, 1]: how much the item is liked (negative: disliked). `consumes`: the item is
    not recommended again, or with `repeat_after` only when so many days have passed since, as of
    goods that are bought again. `takes_back`: a type whose earlier events consume the item no
    longer.

    Where the event carries a value, as stars, the value decides the sign: from `positive_from` on
    it counts `weight`, up to `negative_to` it counts `-weight`, between them 0. `scale`: the lowest
    and the highest value; without a threshold of its own a like then begins at three quarters of
    the scale, and a dislike ends at a quarter (of 1 to 5 stars: 4 and 2).
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
    verb: str = ""

    @model_validator(mode="after")
    def _scale_rises(self) -> Meaning:
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

    def _threshold(self, own: float | None, share: float) -> float | None:
        """The configured threshold, else the one at this share of the scale; None without
        either."""
        if own is not None or self.scale is None:
            return own
        low, high = self.scale
        return low + share * (high - low)

    def opinion(self, value: float | None) -> float:
        """What an event of this type and value says of its item, in [-1, 1]."""
        if value is None or self.liked_from is None or value >= self.liked_from:
            return self.weight
        return -self.weight if self.disliked_to is not None and value <= self.disliked_to else 0.0

    def over(self, other: Meaning) -> Meaning:
        """What was said of this one, and for the rest the other."""
        return other.model_copy(update=self.model_dump(exclude_unset=True))


# ── what a ranking may know of a person ───────────────────────────────────────────────────────────

ProfileSource = Literal["events", "session", "attributes", "instruction", "popularity"]


class Recent(Value):
    """An event of the recent window."""

    event: Event
    """What was done."""
    item: Item | None
    """With what; null for a search."""
    weight: float
    """What the event says, in [-1, 1]; positive: liked."""
    verb: str
    """How a prompt says it."""


class Interest(Value):
    """One taste as a unit vector in the catalogue's space; weights of a person's interests sum to
    1."""

    vector: tuple[float, ...]
    weight: float


class UserState(Value):
    """All that a ranking may know of a person. `version` changes with every accepted event; caches
    key on it.

    `likes`: (item id, weight in (0, 1]) of the latest liked items, oldest first. `avoid`: what they
    said they don't like, in their own words.
    """

    version: int = 0
    recent: tuple[Recent, ...] = ()
    interests: tuple[Interest, ...] = ()
    likes: tuple[tuple[str, float], ...] = ()
    attributes: Attributes = {}
    locale: str | None = None
    allow_hosted: bool = True
    seen: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    source: ProfileSource = "popularity"


# ── rankings ──────────────────────────────────────────────────────────────────────────────────────


class Candidate(Value):
    """`prior`: fused score of the sources, higher is better. `sources`: 1-based rank in each source
    that named it.

    `popularity`: log2 of its decayed votes, comparable within one list; `vector`: its unit vector;
    both where fusion weighs them. `blank`: nothing is known of it but an id, so it stays last, is
    shown to no model and gets no reason.
    """

    item: Item
    prior: float
    sources: dict[str, int] = {}
    popularity: float = 0
    vector: tuple[float, ...] | None = None
    blank: bool = False


ItemField = Literal["title", "text", "url", "image_url", "attributes", "published_at"]
"""What an answer can tell of an item beside its id."""


class Unasked(Enum):
    """The value of a field that nobody asked for: the field is left out of what is sent and
    stored."""

    UNASKED = "unasked"


def _if_asked() -> Any:
    """A field that is left out unless it is given a value; null is one."""
    return Field(
        default_factory=lambda: Unasked.UNASKED,
        exclude_if=lambda value: value is Unasked.UNASKED,
        repr=False,
    )


class ItemFields(BaseModel):
    """What a row of an answer tells of its item, each only where `fields` of the request asks for
    it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str = _if_asked()
    """More words about the item, empty where it has none; only if `fields` asks for it."""
    url: str | None = _if_asked()
    """Where the item is; only if `fields` asks for it."""
    image_url: str | None = _if_asked()
    """A picture of the item; only if `fields` asks for it."""
    attributes: Attributes = _if_asked()
    """What is known of the item, by name; only if `fields` asks for it."""
    published_at: datetime | None = _if_asked()
    """When the item appeared; only if `fields` asks for it."""


class Ranked(Value, ItemFields):
    """An item in its place."""

    rank: int
    """From 1."""
    item_id: str
    """The catalogue's, or the document's."""
    score: float
    """In (0, 1), strictly falling along the list."""
    title: str = ""
    """Empty where the item has none."""
    reason: str | None = None
    """Why this one, in a sentence or two; null if no reason was asked for."""
    evidence: list[str] = []
    """Ids of the person's own items that the reason rests on."""
    attribution: dict[str, float] = {}
    """By the id of a liked item, how much likelier (in nats) this one is after all of them than
    without it; with `explain: full`, for the first of a ranking, where a model can tell."""
    signals: dict[str, float | bool] = {}
    """Raw values behind the score, as `prior` and `model`; `grounded`: did a model's own words pass
    the check?"""
    item: Item | None = Field(None, exclude=True, repr=False)
    """The item as it was ranked, for faces to take `fields` from; it is never sent and never
    stored."""

    def item_fields(self, names: Iterable[ItemField]) -> dict[str, Any]:
        """Fields of the item by name; of one that the catalogue does not know they are empty."""
        item = self.item or Item.model_construct(id=self.item_id)
        return {name: getattr(item, name) for name in names}


class Reason(Value):
    """`grounded`: the model's own words passed the check; False: a template built from true shared
    attributes. `attribution`: as in `Ranked`."""

    item_id: str
    rank: int
    reason: str
    evidence: list[str]
    grounded: bool
    attribution: dict[str, float] = {}


class PromptRef(Value):
    """Which prompt, to the byte."""

    id: str
    """As `movies/rank`."""
    version: str
    """That its file names."""
    sha: str
    """Of its text and of all that it includes."""


class Degraded(Value):
    """Something else answered than was wanted."""

    from_: str = Field(alias="from")
    """What was wanted: a strategy, or `explain:` and a model."""
    to: str
    """What answered."""
    reason: DegradedReason
    """Why: the code of the model's error; `budget`: it is spent; `not_allowed`: this person may not
    be shown to it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True
    )


class Repairs(Value):
    """How often a model's answer had to be mended before it was a permutation."""

    missing: int = 0
    """Candidates that it did not name."""
    duplicate: int = 0
    """Candidates that it named again."""
    unknown: int = 0
    """Names that are no candidate's."""

    def __add__(self, other: Repairs) -> Repairs:
        return Repairs(
            missing=self.missing + other.missing,
            duplicate=self.duplicate + other.duplicate,
            unknown=self.unknown + other.unknown,
        )


DegradedReason = Literal[
    "timeout", "overload", "unreachable", "invalid_output", "no_capability", "budget", "not_allowed"
]


class Tried(Value):
    """A strategy that did not answer."""

    strategy: str
    """And its model, as `listwise:small`."""
    reason: DegradedReason
    """Why."""
    waited_ms: float = 0
    """How long it was waited for, in milliseconds."""


class Choice(Value):
    """How the strategy was chosen."""

    asked: str
    """`auto`, or the strategy that was named."""
    why: str = ""
    """In words."""
    estimate_ms: float | None = None
    """What it was expected to take, in milliseconds; null: nothing measured yet."""
    took_ms: float = 0
    """What it took, failures before it included, in milliseconds."""
    tried: tuple[Tried, ...] = ()
    """What failed before it, in order."""


class Usage(Value):
    """Tokens over all model calls of a request."""

    prompt_tokens: int = 0
    """Read."""
    completion_tokens: int = 0
    """Written."""
    total_tokens: int = 0
    """Both."""
    cached_tokens: int = 0
    """Of those read, how many the engine still had."""
    cost: float | None = None
    """In US dollars; null where no price is known."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cost=None
            if self.cost is None and other.cost is None
            else (self.cost or 0) + (other.cost or 0),
        )


class Price(Value):
    """In US dollars per million tokens. `cached`: of those read that a server had kept; else they
    cost as much as others."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(None, ge=0)

    def of(self, usage: Usage) -> float:
        kept = min(usage.cached_tokens, usage.prompt_tokens)
        cheap = self.input if self.cached is None else self.cached
        read = (usage.prompt_tokens - kept) * self.input + kept * cheap
        return (read + usage.completion_tokens * self.output) / 1_000_000


class Capabilities(Value):
    """What a model was found able to do. `json_schema`: `accepted` means without an error and
    without effect; `top_logprobs`: the most that came at once, of a few numbers tried;
    `cached_tokens`: they are reported; `read_tps`, `write_tps`: tokens per second of one question
    alone."""

    grammar: bool = False
    json_schema: Literal["enforced", "accepted", "refused"] = "refused"
    token_logprobs: bool = False
    top_logprobs: int = 0
    prompt_logprobs: bool = False
    context: int | None = None
    cached_tokens: bool = False
    read_tps: float | None = None
    write_tps: float | None = None
    at: datetime


class Timings(Value):
    """Milliseconds, and what of them went where."""

    total_ms: float = 0
    """All of it."""
    state_ms: float = 0
    """Reading the person."""
    retrieve_ms: float = 0
    """Finding candidates."""
    model_ms: float = 0
    """Ranking them."""
    explain_ms: float = 0
    """Writing reasons."""


class Ranking(Value):
    """The answer: always valid, complete and typed."""

    ranking_id: str
    """Send it with the events that follow: it joins a click to what was shown."""
    items: list[Ranked]
    """The best first."""
    strategy: str
    """Which one answered; `prior`: no model did."""
    model: str | None = None
    """The alias of the model that ranked; null: none did."""
    prompt: PromptRef | None = None
    """What that model was asked with."""
    state_version: int = 0
    """Of the person, raised by each of their events; 0: nothing is known."""
    profile_source: ProfileSource = "popularity"
    """What was known of the person to go by."""
    choice: Choice | None = None
    """How the strategy was chosen."""
    degraded: Degraded | None = None
    """Null unless something else answered than was wanted."""
    repairs: Repairs = Repairs()
    """What had to be mended in the model's answer."""
    usage: Usage = Usage()
    """Over all model calls."""
    timings: Timings = Timings()
    """In milliseconds."""
    cached: bool = False
    """Is this an earlier answer, given again?"""
    warnings: list[str] = []
    """What was done otherwise than one might think, in words."""


class LoggedRanking(Value):
    """A ranking as somebody was shown it."""

    shown_at: Moment
    domain: Label
    ranking: Ranking


class ShadowRanking(Value):
    """What another model, by its alias, would have shown in the place of the ranking of the same
    id."""

    alias: str
    ranking: Ranking


# ── requests ──────────────────────────────────────────────────────────────────────────────────────


class Filter(Value):
    """Conditions on one declared key; all that are given must hold."""

    gt: Scalar | None = None
    """Greater than."""
    gte: Scalar | None = None
    """At least."""
    lt: Scalar | None = None
    """Less than."""
    lte: Scalar | None = None
    """At most."""
    any: Annotated[list[Scalar], Field(min_length=1, max_length=1_000)] | None = None
    """One of these, in any case; of a list, one of its elements."""
    none: Annotated[list[Scalar], Field(min_length=1, max_length=1_000)] | None = None
    """None of these, in any case; of a list, none of its elements."""


FASTER, PRIOR = "whyrank-fast", "whyrank-prior"
"""Model ids that ask for only what writes nothing, reasons included, and for no model at all."""
LONGEST_INSTRUCTION = 2_000
"""Characters."""


class RecommendRequest(Value):
    """What to rank, for whom, and how. Everything is optional: with nothing known, popularity
    answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "127",
                    "top_n": 5,
                    "instruction": "something funny",
                    "filters": {"year": {"gte": 1990}},
                }
            ]
        }
    )

    user_id: Id | None = Field(None, description="Whose history to use.")
    session_id: Id | None = Field(
        None, description="A visitor's session; its anonymous events count as history."
    )
    top_n: int = Field(10, ge=1, description="How many items to return.")
    candidates: list[Id] | None = Field(
        None,
        min_length=1,
        description=(
            "Rank exactly these catalogue items instead of retrieving. Unknown ids rank last."
        ),
    )
    context_items: list[Id] = Field(
        [], max_length=100, description="More like these items, as those of a playlist."
    )
    instruction: Annotated[Text, StringConstraints(max_length=LONGEST_INSTRUCTION)] | None = Field(
        None, description="What the person wants now, in words."
    )
    filters: dict[Key, Filter] = Field(
        {}, description="Conditions on `id` and on keys in catalog.filterable."
    )
    exclude: list[Id] = Field([], max_length=10_000, description="Items never to return.")
    avoid: list[Annotated[Text, StringConstraints(max_length=100)]] = Field(
        [],
        max_length=100,
        description="Words; nothing that has one as an attribute's value is retrieved.",
        examples=[["Horror"]],
    )
    domain: Label | None = Field(
        None, description="Selects prompts and event meanings; the service's by default."
    )
    locale: Locale | None = Field(
        None, description="Language of the reasons; the user's by default."
    )
    strategy: str | None = Field(
        None, description="auto, likelihood, first_token, listwise, keyed, pointwise or prior."
    )
    model: str | None = Field(
        None, description="`whyrank`, `whyrank-prior`, or a configured model alias."
    )
    prompt_id: str | None = Field(
        None, description="A ranking prompt other than the domain's, as `movies/rank`."
    )
    prompt_version: str | None = Field(
        None, description="Refuse unless the prompt has this version."
    )
    explain: Literal["none", "short", "full"] = Field(
        "short",
        description=(
            "Reasons for the best items; full: with each source's rank and what moved each item."
        ),
    )
    deadline_ms: int | None = Field(
        None, ge=1, le=600_000, description="Answer within this time, whatever it takes."
    )
    redact: list[Name] = Field(
        [],
        max_length=100,
        description="Names no hosted model may read in what the person wrote.",
        examples=[["Ann Smith"]],
    )
    fields: list[ItemField] = Field(
        [],
        description="What to tell of each item beside its id and title: its `text`, `url`, "
        "`image_url`, `attributes`, "
        "`published_at`; null or empty where it has none.",
        examples=[["url", "image_url"]],
    )
    stream: bool = Field(False, description="Answer by events: `ranking`, `reason`s, `done`.")

    @model_validator(mode="after")
    def _coherent(self) -> RecommendRequest:
        for name in ("candidates", "context_items"):
            ids = getattr(self, name) or []
            if len(set(ids)) < len(ids):
                raise ValueError(f"{name} holds an id twice")
        if self.candidates is not None and self.filters:
            raise ValueError(
                "filters choose what is retrieved; with candidates there is nothing to retrieve"
            )
        return self


class Document(Value):
    """Something to rank that may be in no catalogue. `id`: the caller's own; the catalogue's item
    of that id lends what is not given here."""

    id: Id | None = None
    title: Annotated[Text, StringConstraints(max_length=4_000)] = ""
    text: Annotated[Text, StringConstraints(max_length=1_000_000)] = ""
    attributes: AttributesIn = {}
    url: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    image_url: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    published_at: Moment | None = None

    @property
    def name(self) -> str | None:
        """Its id, or what may be one: a short text without anything else."""
        return self.id or (
            self.text if 0 < len(self.text) <= LONGEST_ID and not self.title else None
        )

    def over(self, known: Item | None) -> Item:
        """As an item: what it says itself, over what the catalogue knows of it. Without either the
        id is empty."""
        item = known or Item.model_construct(id="")
        text = "" if known is not None and self.text == known.id else self.text
        own = {
            "title": self.title,
            "text": text,
            "attributes": {**item.attributes, **self.attributes},
            "url": self.url,
            "image_url": self.image_url,
            "published_at": self.published_at,
        }
        return item.model_copy(update={name: value for name, value in own.items() if value})


class InlineEvent(Value):
    """Something the person did, told with the question instead of as an event: it is not kept."""

    item_id: Id
    type: Label = "like"


class RerankRequest(Value):
    """Which of these documents first, for this query, this person, or both. `top_n`: None for all;
    `line_tokens`: so much of a document is shown to a model, at most; the rest as in
    `RecommendRequest`."""

    query: Text = ""
    documents: Annotated[list[Document], Field(min_length=1)]
    top_n: int | None = Field(None, ge=1)
    user_id: Id | None = None
    session_id: Id | None = None
    history: Annotated[list[InlineEvent], Field(max_length=1_000)] = []
    line_tokens: int | None = Field(None, ge=1)
    domain: Label | None = None
    locale: Locale | None = None
    strategy: str | None = None
    model: str | None = None
    explain: Literal["none", "short", "full"] = "none"
    deadline_ms: int | None = Field(None, ge=1, le=600_000)
    redact: Annotated[list[Name], Field(max_length=100)] = []


class Reranked(Value):
    """`ranking` with, for each of its items, the document's place in the request; `warnings`: what
    was done otherwise than one might think, in words."""

    ranking: Ranking
    places: list[int]
    warnings: list[str] = []


class Turn(Value):
    """Something said in a conversation."""

    role: Literal["user", "assistant"]
    text: Text


class ChatRequest(Value):
    """A conversation whose last turn is the person's. `shape`: a JSON schema that the answer's text
    shall follow, or {} for any JSON object; `note`: may what the person says of themselves become
    events? `top_n`: the most picks that a turn may ask for; None: as many as it asks for, else 5.
    The rest as in `RecommendRequest`."""

    turns: Annotated[list[Turn], Field(min_length=1)]
    shape: dict[str, Any] | None = None
    note: bool = True
    user_id: Id | None = None
    session_id: Id | None = None
    top_n: int | None = Field(None, ge=1)
    candidates: list[Id] | None = Field(None, min_length=1)
    documents: list[Document] | None = Field(None, min_length=1)
    filters: dict[Key, Filter] = {}
    exclude: Annotated[list[Id], Field(max_length=10_000)] = []
    domain: Label | None = None
    locale: Locale | None = None
    strategy: str | None = None
    model: str | None = None
    prompt_id: str | None = None
    prompt_version: str | None = None
    explain: Literal["none", "short", "full"] = "short"
    deadline_ms: int | None = Field(None, ge=1, le=600_000)
    redact: Annotated[list[Name], Field(max_length=100)] = []

    @model_validator(mode="after")
    def _answerable(self) -> ChatRequest:
        if self.turns[-1].role != "user":
            raise ValueError("the last message must be the user's")
        if self.documents is not None and (self.candidates is not None or self.filters):
            raise ValueError(
                "documents are all there is to choose among: no candidates, no filters beside them"
            )
        if self.candidates is not None and self.filters:
            raise ValueError(
                "filters choose what is retrieved; with candidates there is nothing to retrieve"
            )
        if len(set(self.candidates or ())) < len(self.candidates or ()):
            raise ValueError("candidates holds an id twice")
        return self


class ChatReply(Value):
    """`text`: all of it; `ranking`: what the picks in it come from; `noted`: events that it made of
    what the person said."""

    text: str
    kind: Literal["recommend", "why", "about", "smalltalk", "offtopic"]
    ranking: Ranking | None = None
    noted: list[Event] = []
    usage: Usage = Usage()


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────

KeyScope = Literal["read", "write", "admin"]


class ApiKey(Value):
    """Who may call, for what, how often and until when; the secret is not in it. `rate`: requests a
    minute; `budget`: dollars a day that models may cost on its account."""

    key_id: str = Field(default_factory=lambda: secrets.token_hex(6))
    name: Id
    scopes: tuple[KeyScope, ...] = Field(min_length=1)
    rate: int | None = Field(None, ge=1, le=MAX_RATE)
    budget: float | None = Field(None, ge=0)
    created_at: Moment = Field(default_factory=lambda: datetime.now(UTC))
    expires_at: Moment | None = None
    revoked_at: Moment | None = None

    def allows(self, scope: KeyScope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
