"""Sections of the configuration but for models."""

from bisect import bisect_left
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    StringConstraints,
    field_validator,
    model_validator,
)

from service.schema import MAX_RATE, Filter, Key, Label, Meaning, Name

Share = Annotated[float, Field(ge=0, le=1)]
MEANINGS: dict[str, Meaning] = {
    "impression": Meaning(),
    "view": Meaning(weight=0.2, verb="viewed"),
    "click": Meaning(weight=0.3, verb="clicked"),
    "play": Meaning(weight=0.6, consumes=True, verb="played"),
    "like": Meaning(weight=1, consumes=True, verb="liked"),
    "unlike": Meaning(weight=-0.3, takes_back="like", verb="took back a like of"),
    "dislike": Meaning(weight=-1, consumes=True, verb="disliked"),
    "rating": Meaning(weight=1, consumes=True, scale=(1, 5), verb="rated {}[ {value}]"),
    "comment": Meaning(weight=0.4, verb="commented on"),
    "purchase": Meaning(weight=1, consumes=True, takes_back="add_to_cart", verb="bought"),
    "return": Meaning(weight=-0.8, consumes=True, verb="returned"),
    "add_to_cart": Meaning(weight=0.7, consumes=True, verb="put {} in the cart"),
    "remove_from_cart": Meaning(
        weight=-0.3, takes_back="add_to_cart", verb="took {} out of the cart"
    ),
    "follow": Meaning(weight=0.8, consumes=True, verb="followed"),
    "subscribe": Meaning(weight=0.8, consumes=True, verb="subscribed to"),
    "share": Meaning(weight=0.8, verb="shared"),
    "skip": Meaning(weight=-0.4, verb="skipped"),
    "search": Meaning(verb="searched for"),
    "seen": Meaning(consumes=True, verb="have seen"),
    "block": Meaning(weight=-1, blocks=True, verb="blocked"),
    "unblock": Meaning(unblocks=True),
}
"""What the built-in event types mean, unless `DOMAIN_MEANINGS` changes it."""
DOMAIN_MEANINGS: dict[str, dict[str, Meaning]] = {
    "shop": {"like": Meaning(consumes=False)},
    "friends": {"like": Meaning(consumes=False)},
    "topics": {"like": Meaning(consumes=False)},
}
"""Changes to `MEANINGS` in a domain, field by field. Goods, friends and topics that somebody liked
may still be bought, met or followed, so there a like does not consume."""


class Section(BaseModel, frozen=True, extra="forbid"):
    """A frozen part of the configuration that refuses unknown keys."""


class ServiceSettings(Section):
    """Where the service listens, and for whom. `domain`: of requests that name none. `deadline_ms`:
    of requests that have none. `ping_s`: longest silence of a stream, since a proxy may cut a
    silent one. `cors`: origins whose pages may call it, as https://shop.example; `*`: all.
    """

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    domain: Label = "generic"
    deadline_ms: int = Field(60_000, ge=1, le=600_000)
    ping_s: float = Field(15, gt=0)
    cors: list[Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s*]+)$")]] = []

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address that is listened on."""
        return self.host in {"127.0.0.1", "localhost", "::1"}


class EngineSettings(Section):
    """The vLLM server that `whyrank engine` starts. `model`: the alias that it serves; default: the
    model that ranks if its backend is vllm, else the first model whose backend is
    (`Settings.served`). `args`, `env`: more arguments and environment variables for it."""

    model: str | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    start_timeout_s: float = Field(600, gt=0)


class StoreSettings(Section):
    """The database of events, users, rankings and keys."""

    url: str | None = Field(
        None, description="SQLAlchemy URL; default: whyrank.db under the data folder."
    )

    @field_validator("url")
    @classmethod
    def _check_sqlite(cls, url: str | None) -> str | None:
        if url is not None and (
            not url.startswith("sqlite:///") or url in {"sqlite:///", "sqlite:///:memory:"}
        ):
            raise ValueError("this build stores events in SQLite: sqlite:///PATH")
        return url


class CatalogSettings(Section):
    """The store of items. `filterable`: attribute keys that requests may filter on, with their
    types; each is a column of the table. `scopes`: by domain, filters that its items meet, where
    one catalogue has things of several kinds: `{friends: {kind: {any: [person]}}}`; a domain that
    isn't there ranks them all. `optimize_every_s`: how often the table is compacted."""

    filterable: dict[Label, Literal["int", "float", "str", "bool", "list"]] = {}
    scopes: dict[Label, dict[Label, Filter]] = {}
    optimize_every_s: float = Field(60, gt=0)


GivenMeaning = Annotated[
    Meaning, PlainSerializer(lambda meaning: meaning.model_dump(exclude_unset=True))
]
"""Of it only the fields that were given are dumped: a default would overrule the built-in meaning
when the dump is read again."""


class EventSettings(Section):
    """Changes to what the built-in event types mean, and meanings of new types. `types`: in every
    domain; `meanings`: by domain (`generic`: in every one). Fields that are not given stay as they
    are: `types: {rating: {scale: [1, 10]}}` changes only the scale of a rating.
    `future_tolerance_s`: how far in the future an event's time may lie.
    """

    future_tolerance_s: float = Field(300, ge=0)
    types: dict[Label, GivenMeaning] = {}
    meanings: dict[Label, dict[Label, GivenMeaning]] = {}

    def of(self, domain: str) -> dict[str, Meaning]:
        """The meaning of every known event type in a domain."""
        meanings = dict(MEANINGS)
        for name, change in chain(
            DOMAIN_MEANINGS.get(domain, {}).items(),
            self.types.items(),
            self.meanings.get("generic", {}).items(),
            self.meanings.get(domain, {}).items(),
        ):
            meanings[name] = change.over(meanings[name]) if name in meanings else change
        return meanings

    @property
    def known(self) -> frozenset[str]:
        """All event types that have a meaning in any domain."""
        return frozenset(
            chain(MEANINGS, self.types, *DOMAIN_MEANINGS.values(), *self.meanings.values())
        )


class TrainingSettings(Section):
    """The matrix factorisation of the collaborative source.

    `alpha`: how much more a like counts than no event. `regularization`: the paper's λ, as a share
    of what the likes of an average item count. As a share, one value suits films, groceries and
    books; the absolute λ that is best for films (20) is far too small for groceries. From 0.5
    upwards it shrinks all factors to nothing.

    It is trained again when the log has grown by the share `growth` since the last training; this
    is checked every `every_s` seconds.
    """

    factors: int = Field(64, ge=2, le=512)
    alpha: float = Field(5, gt=0, le=1_000)
    regularization: float = Field(0.1, gt=0, le=0.5)
    iterations: int = Field(15, ge=1, le=200)
    growth: float = Field(0.1, gt=0)
    every_s: float = Field(300, gt=0)


HISTORIES = (0, 3, 20)
"""The most likes of a person without any, of one with few and of one with some."""
History = Literal["none", "few", "some", "many"]
"""The four kinds of history by their names."""
WeightByHistory = Share | tuple[Share, Share, Share, Share]
"""One weight for everybody; or one for people with no likes, 1 to 3, 4 to 20, and more."""


def history_of(likes: int) -> History:
    """The kind of history of a person with so many likes."""
    names: tuple[History, ...] = get_args(History)
    return names[bisect_left(HISTORIES, likes)]


def at_history(weight: WeightByHistory, likes: int) -> float:
    """The weight for a person with so many likes."""
    return weight[bisect_left(HISTORIES, likes)] if isinstance(weight, tuple) else weight


SEQUENCE = 0.4
"""The weight of `sequence` where none is configured."""
UNORDERED = frozenset({"shop"})
"""Domains in which the order of likes says nothing by default: what is bought on one day has
none."""


def greatest(weight: WeightByHistory) -> float:
    """The greatest weight that any history has."""
    return max(weight) if isinstance(weight, tuple) else weight


def least(weight: WeightByHistory) -> float:
    """The least weight that any history has."""
    return min(weight) if isinstance(weight, tuple) else weight


class SourceWeights(Section):
    """The weight of each source of candidates in the fused prior; 0 switches it off. A list of four
    numbers: for people with no likes, 1 to 3, 4 to 20, and more.

    Of people with few likes or none, popularity says about as much as the content of what they
    liked or declared (`similar`, `closest`, `lexical`); of others most is said by what people like
    them liked (`collaborative`, `item_item`, `sequence`).
    Without a weight of its own `sequence` has 0.4, and 0 in the domain `shop`. How the defaults
    were measured: docs/ranking.md.
    """

    similar: WeightByHistory = 0.1
    closest: WeightByHistory = 0.15
    lexical: WeightByHistory = 0.3
    collaborative: WeightByHistory = 1.0
    item_item: WeightByHistory = 0.5
    sequence: WeightByHistory | None = None
    context: WeightByHistory = 1.0
    query: WeightByHistory = 1.0
    popular: WeightByHistory = (1.0, 1.0, 0.1, 0.1)
    trending: WeightByHistory = 0.0
    fresh: WeightByHistory = 0.0

    def of(self, domain: str) -> dict[str, WeightByHistory]:
        """The weight of each source by its name, in a domain."""
        ordered = 0.0 if domain in UNORDERED else SEQUENCE
        weights = {name: getattr(self, name) for name in SOURCES}
        return {name: ordered if weight is None else weight for name, weight in weights.items()}


SOURCES = tuple(SourceWeights.model_fields)
"""The names of the sources."""


class Retrieve(SourceWeights):
    """How candidates are found. `k`: how many are kept after fusion."""

    k: int = Field(50, ge=1, le=1_000)
    popular_half_life_days: float = Field(30, gt=0)
    training: TrainingSettings = TrainingSettings()


ModelStrategy = Literal["likelihood", "first_token", "listwise", "keyed", "pointwise"]
"""The strategies that ask a model."""


class RankerTraining(Section):
    """When a ranker is learned from the service's own log, in a process of its own: every so many
    hours; none: never, or by `whyrank fit --ranker auto --out FOLDER` from a timer of yours."""

    every_h: float | None = Field(None, gt=0)


class Rank(Section):
    """How a model ranks the candidates.

    `strategy`: `auto` takes the first of `prefer` that the model can do and that is expected to end
    before the deadline. It asks no model if less than `least_history` is known of the person or the
    prior is clear (its best candidate is `clear_prior` standard deviations above the next).

    `depth`: how many candidates the model judges, `window` of them in one prompt; `shown`: in which
    order (shuffled: by a hash of the id). `orderings`: how often a model that writes is asked, each
    time with the candidates in another order. `titles`: how many liked titles precede a candidate
    whose likelihood is asked for.

    `recent_min`, `recent_max`: the history in a prompt grows from the one to the other before its
    oldest events are dropped. `line_tokens`: longest line of an item in a prompt, kept by cutting
    its UTF-8 bytes (a byte-level token holds at least one byte). `popularity`: how much of an
    item's log-popularity is subtracted from its score; `diversity`: how much likeness to a
    better-placed item is (maximal marginal relevance). `fitted`: whether weights that `whyrank fit`
    found replace the configured ones; `weights`: their folder; default: weights/ under the data
    folder. `training`: when a ranker is learned by itself.
    """

    strategy: Literal["auto", ModelStrategy, "prior"] = "auto"
    prefer: list[ModelStrategy] = Field(
        ["likelihood", "first_token", "listwise", "keyed"], min_length=1
    )
    window: int = Field(20, ge=2, le=26)
    depth: int = Field(20, ge=2, le=1_000)
    orderings: int = Field(2, ge=1, le=8)
    titles: int = Field(10, ge=1, le=40)
    least_history: int = Field(1, ge=0)
    clear_prior: float = Field(4, gt=0)
    shown: Literal["prior", "reversed", "shuffled"] = "prior"
    recent_min: int = Field(6, ge=1, le=20)
    recent_max: int = Field(15, ge=1, le=40)
    line_tokens: int = Field(96, ge=16, le=1_000)
    popularity: float = Field(0, ge=-1, le=1)
    diversity: Share = 0
    fitted: bool = True
    weights: Path | None = None
    training: RankerTraining = RankerTraining()

    @model_validator(mode="after")
    def _check_recent(self) -> Self:
        if self.recent_min >= self.recent_max:
            raise ValueError(
                "recent_min must be below recent_max: the window grows from one to the other"
            )
        return self


class Weights(SourceWeights):
    """Weights of fusion: of each source in the prior, of the model against the prior (0: it isn't
    asked by `auto`), and of what popularity and likeness subtract. A source that they don't name
    has the weight 0: weights that were fitted before it existed know nothing of it."""

    model: WeightByHistory
    null: Share = 0.6
    popularity: float = Field(0, ge=-1, le=1)
    diversity: Share = 0

    @model_validator(mode="before")
    @classmethod
    def _unnamed_sources_are_off(cls, given: Any) -> Any:
        return {**dict.fromkeys(SOURCES, 0), **given} if isinstance(given, dict) else given

    def at(self, likes: int, *, asked: bool = False) -> dict[str, float]:
        """The weight of each source, by its name, for a person with so many likes. `asked`: does
        the request say what is wanted, or looked at? Then popularity, which speaks for people of
        whom nothing else is known, has the least weight that any history gives it."""
        weights = {name: at_history(getattr(self, name) or 0.0, likes) for name in SOURCES}
        if asked:
            weights["popular"] = least(self.popular)
        return weights


class ExplainSettings(Section):
    """How items are explained. `top`: for how many of the best a model finds what moved them and
    writes the reason; the rest get template reasons. Set it no lower than the usual `top_n`, since
    whether an item is above this line depends on the other items."""

    top: int = Field(10, ge=0, le=20)


class Rerank(Section):
    """Ranking of documents that come with the request. `line_tokens`: how much of a document a
    model is shown. `json_query`: whether a query may be a JSON object that says who asks and what
    they did, for clients that can send nothing else, as Gorse. `documents_are_ids`: whether a short
    text alone names the item of the catalogue that has it as its id, where a request doesn't say;
    for clients that send ids and can't say so."""

    line_tokens: int = Field(192, ge=16, le=2_000)
    json_query: bool = False
    documents_are_ids: bool = False


class Limits(Section):
    """What one request may hold: `top_n` items in an answer, `candidates` of the caller's choosing,
    `batch` elements of a feed, `body_bytes` in all; `documents` to rerank, `query_chars` of a query
    or an instruction; `messages` of a conversation, `message_chars` of each; `inputs` to embed.

    `rate`: requests a minute of a key that has no rate of its own, and of all callers together
    while no key is needed; none: unlimited. Each process counts for itself: n processes let through
    n times as many.
    """

    top_n: int = Field(100, ge=1)
    candidates: int = Field(1_000, ge=1, le=5_000)
    batch: int = Field(10_000, ge=1)
    body_bytes: int = Field(16 * 2**20, ge=1_024)
    documents: int = Field(1_000, ge=1, le=5_000)
    query_chars: int = Field(8_000, ge=1)
    messages: int = Field(200, ge=1)
    message_chars: int = Field(32_000, ge=1)
    inputs: int = Field(2_048, ge=1)
    rate: int | None = Field(None, ge=1, le=MAX_RATE)


class ShadowSettings(Section):
    """A second model that ranks the same requests for comparison. Its rankings are stored for
    'whyrank eval production' and shown to nobody.

    `model`: its alias; none: no shadow. `share`: of the requests; `at_once`: how many it ranks at a
    time; `waiting`: how many may wait, more are dropped. `strategy`: how it ranks; `deadline_ms`:
    its deadline; default: the service's.
    """

    model: str | None = None
    share: Share = 0.1
    strategy: Literal["auto", ModelStrategy] = "auto"
    deadline_ms: int | None = Field(None, ge=1, le=600_000)
    at_once: int = Field(1, ge=1, le=64)
    waiting: int = Field(16, ge=0, le=1_000)


class PrivacySettings(Section):
    """What a hosted model may be shown. E-mail addresses, phone numbers, card numbers and IBANs are
    always taken out; `phone_regions`: ISO codes of countries whose phone numbers are recognised
    without their international prefix. `names`: words that are taken out of what people wrote, as
    are street addresses and ids; a request may list more (`redact`).

    `item_attributes`: keys of items' attributes that are shown; none: those of
    `catalog.filterable`. `user_attributes`: keys of people's attributes that are shown.
    """

    phone_regions: list[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]] = []
    names: list[Name] = []
    item_attributes: list[Key] | None = None
    user_attributes: list[Key] = []
