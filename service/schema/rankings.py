"""Rankings: what they are made for and from, the ranked items, and how they were found."""

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from service.schema.records import Attributes, Event, Item, Label, Moment, Value
from service.schema.wishes import Understood

MIN_GAP = 1e-6
"""Scores of neighbours in a ranking differ by at least this much."""
ItemField = Literal["title", "text", "url", "image_url", "attributes", "published_at"]
"""What an answer can tell of an item beside its id."""
ProfileSource = Literal["events", "session", "attributes", "instruction", "popularity"]


class Recent(Value):
    """An event of the recent window."""

    event: Event
    """What was done."""
    item: Item | None
    """The event's item; null for a search."""
    weight: float
    """What the event says, in [-1, 1]; positive: liked."""
    verb: str
    """How a prompt says it."""
    verbs: dict[str, str] = {}
    """How a reason says it, by language, as far as it is configured: see `Meaning.verb`."""


class Interest(Value):
    """One taste of a person: a unit vector in the embedding space of the items. The weights of a
    person's interests sum to 1."""

    vector: tuple[float, ...]
    weight: float


class UserState(Value):
    """All that a ranking may know of a person.

    `version` changes with every accepted event, so caches use it as a key. `recent`: the window of
    latest events. `likes`: (item id, weight in (0, 1]) of the latest liked items, oldest first.
    `seen`: ids of items not to be recommended. `avoid`: what they said they don't like, in their
    own words. `source`: what kind of knowledge this is made of.
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


class Candidate(Value):
    """An item that may be ranked.

    `prior`: weighted sum of the sources' scores, higher is better. `sources`: 1-based rank in each
    source that found the item; `scores`: its score there, from 0 to 1. `features`: what a
    learned ranker orders by, set only if asked for. `popularity`: log2 of its decayed votes,
    comparable within one list; `vector`: its unit vector; both are set only if fusion weighs them.
    `relevance`: how probably it answers the request's words; None without such words.
    `refused`: the wish excludes it, but the caller lists it, so it comes after all others. `blank`:
    only the item's id is known, so it stays last, is shown to no model and gets no reason.
    """

    item: Item
    prior: float
    sources: dict[str, int] = {}
    scores: dict[str, float] = {}
    features: dict[str, float] = {}
    popularity: float = 0
    relevance: float | None = None
    vector: tuple[float, ...] | None = None
    refused: bool = False
    blank: bool = False


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

    def __add__(self, other: Self) -> Self:
        return type(self)(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cost=None
            if self.cost is None and other.cost is None
            else (self.cost or 0) + (other.cost or 0),
        )


class Price(Value):
    """US dollars per million tokens. `input`, `output`: tokens read and written; `cached`: input
    tokens that the server still had in its cache; None: they cost as much as other input."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(None, ge=0)

    def of(self, usage: Usage) -> float:
        """The cost of a usage in US dollars."""
        cached_tokens = min(usage.cached_tokens, usage.prompt_tokens)
        cached_price = self.input if self.cached is None else self.cached
        fresh_tokens = usage.prompt_tokens - cached_tokens
        read_cost = fresh_tokens * self.input + cached_tokens * cached_price
        return (read_cost + usage.completion_tokens * self.output) / 1_000_000


class Capabilities(Value):
    """What a probe found a model able to do. `grammar`: it obeys a grammar; `json_schema`:
    `accepted` if the server takes a schema but its answer ignores it; `top_logprobs`: the most
    log-probabilities per token that came back, of the few numbers tried; `context`: tokens it can
    hold; `cached_tokens`: the server reports how many it had cached; `read_tps`, `write_tps`:
    tokens per second with no other request running; `at`: when it was probed."""

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


class Unasked(Enum):
    """The value of a field that the request did not ask for. Such a field is neither sent nor
    stored; a field that is null is."""

    UNASKED = "unasked"


def _omitted_unless_set() -> Any:
    """A pydantic field that is left out of a dump unless it was given a value; null is a value."""
    return Field(
        default_factory=lambda: Unasked.UNASKED,
        exclude_if=lambda value: value is Unasked.UNASKED,
        repr=False,
    )


class ItemFields(BaseModel, use_attribute_docstrings=True):
    """Fields of an item that a row of an answer repeats, each only if the request lists it under
    `fields`."""

    text: str = _omitted_unless_set()
    """More words about the item, empty where it has none; only if `fields` asks for it."""
    url: str | None = _omitted_unless_set()
    """Where the item is; only if `fields` asks for it."""
    image_url: str | None = _omitted_unless_set()
    """A picture of the item; only if `fields` asks for it."""
    attributes: Attributes = _omitted_unless_set()
    """What is known of the item, by name; only if `fields` asks for it."""
    published_at: datetime | None = _omitted_unless_set()
    """When the item appeared; only if `fields` asks for it."""


FactKind = Literal[
    "shared", "attribute", "text", "event", "near", "together", "search", "asked", "origin"
]


class ReasonFact(Value):
    """Something true of an item, or of an item and a person, that a reason may say."""

    id: str
    """`f1`, `f2` and so on, within one reason."""
    kind: FactKind
    """`attribute`, `shared`: the item has the value, and so has the person's item `item_id`;
    `text`: its text says the value; `event`: what the person did with `item_id`; `near`: its text
    is near that of `item_id`; `together`: how many people did the event to both; `search`, `asked`:
    what the person searched for, or asked for now; `origin`: the source in which it stood
    highest."""
    key: str | None = None
    """The attribute's."""
    value: str | None = None
    """The attribute's value, the words, or the source."""
    item_id: str | None = None
    """One of the person's own items."""
    event: str | None = None
    """The type of the event."""
    count: int | None = None
    """How many people."""
    used: bool = False
    """Does the sentence say it?"""


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
    facts: list[ReasonFact] = []
    """What the reason is made of, and what else could be said; with `explain: full`."""
    attribution: dict[str, float] = {}
    """By the ids of the person's items that are related to this one, how much each draws it: by
    what they share, the rarer the more, by their texts, by how many people chose both, and by the
    learned sources; with `explain: full`."""
    signals: dict[str, float | bool] = {}
    """Raw values behind the score, as `prior` and `model`; `relevance`: how probably it answers the
    request's words; `grounded`: did a model's own words pass the check?"""
    item: Item | None = Field(None, exclude=True, repr=False)
    """The item as it was ranked, for faces to take `fields` from; it is never sent and never
    stored."""

    def item_fields(self, names: Iterable[ItemField]) -> dict[str, Any]:
        """The item's fields of these names. They are empty where the catalogue has no such item."""
        item = self.item or Item.model_construct(id=self.item_id)
        return {name: getattr(item, name) for name in names}


class Reason(Value):
    """Why an item was ranked where it is. `grounded`: True if the reason is the model's own words
    and they passed the check, False if it is a template. `facts`, `attribution`: as in `Ranked`."""

    item_id: str
    rank: int
    reason: str
    evidence: list[str]
    grounded: bool
    facts: list[ReasonFact] = []
    attribution: dict[str, float] = {}


class PromptRef(Value):
    """Which prompt, to the byte."""

    id: str
    """As `movies/rank`."""
    version: str
    """That its file names."""
    sha: str
    """Of its text and of all that it includes."""


DegradedReason = Literal[
    "timeout", "overload", "unreachable", "invalid_output", "no_capability", "budget", "not_allowed"
]


class Degraded(Value, populate_by_name=True, serialize_by_alias=True):
    """Something else answered than was wanted."""

    from_: str = Field(alias="from")
    """What was wanted: a strategy, or `explain:` and a model."""
    to: str
    """What answered."""
    reason: DegradedReason
    """Why: the code of the model's error; `budget`: it is spent; `not_allowed`: this person may not
    be shown to it."""


class Repairs(Value):
    """How often a model's answer had to be mended before it was a permutation."""

    missing: int = 0
    """Candidates that it did not name."""
    duplicate: int = 0
    """Candidates that it named again."""
    unknown: int = 0
    """Names that are no candidate's."""

    def __add__(self, other: Self) -> Self:
        return type(self)(
            missing=self.missing + other.missing,
            duplicate=self.duplicate + other.duplicate,
            unknown=self.unknown + other.unknown,
        )


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


class Timings(Value):
    """Milliseconds, and what of them went where."""

    total_ms: float = 0
    """All of it."""
    state_ms: float = 0
    """Reading the person's state."""
    retrieve_ms: float = 0
    """Finding candidates."""
    model_ms: float = 0
    """Ranking them."""
    explain_ms: float = 0
    """Writing reasons."""


class Ranking(Value):
    """The answer to a request for a ranking: each candidate at most once, best first, and how they
    were ranked."""

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
    understood: Understood | None = None
    """What the instruction was taken to ask for; null without one."""
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
    """A ranking as it was stored when a person was shown it."""

    shown_at: Moment
    domain: Label
    ranking: Ranking


class ShadowRanking(Value):
    """The ranking that a shadow model made for the same request. `alias`: the shadow model's;
    `ranking`: has the `ranking_id` of the ranking that was shown."""

    alias: str
    ranking: Ranking
