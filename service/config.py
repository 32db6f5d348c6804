"""Settings: one frozen value, from a YAML file and the environment, checked once at the edge.

`Settings.load(path)` reads `path`, else `$WHYRANK_CONFIG`, else `configs/cpu.yaml`. The environment
wins over the file: `WHYRANK_RANK__WINDOW=10` sets `rank.window`. Secrets (`WHYRANK_API_KEY`) come
from the environment only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.errors import ConfigError
from service.schema import MAX_RATE, Key, Label, Meaning, Name, Price

HOUSE = Path(__file__).resolve().parents[1]
"""The folder that holds service/, prompts/ and configs/."""

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServiceSettings(Section):
    """Where it listens, and for whom. `ping_s`: a stream is never silent for longer, or something
    on the way might cut it.

    `cors`: origins whose pages may call it, as https://shop.example; `*`: all.
    """

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    domain: Label = "generic"
    deadline_ms: int = Field(60_000, ge=1, le=600_000)
    ping_s: float = Field(15, gt=0)
    cors: list[Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s*]+)$")]] = []

    @property
    def loopback(self) -> bool:
        """Can nobody but this machine reach it?"""
        return self.host in {"127.0.0.1", "localhost", "::1"}


class EngineSettings(Section):
    """The local engine that `whyrank engine` starts: which alias it serves, and how.

    `model`: default: the alias that ranks if its backend is vllm, else the first alias whose
    backend is (`Settings.served`).
    """

    model: str | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    start_timeout_s: float = Field(600, gt=0)


def outside(url: str) -> bool:
    """Is its host beyond this machine and its private network, as far as the name tells? So is what
    has no URL of its own."""
    host = urlsplit(url).hostname
    if host is None:
        return True
    try:
        return not ip_address(host).is_private
    except ValueError:
        return host != "localhost" and "." in host


OURS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "response_format",
        "n",
        "api_key",
        "api_base",
        "base_url",
    }
)
"""Fields of a request that `extra` can't change."""


class Model(Section):
    """One language model. `vllm`: a vLLM at `base_url`, where it is called `model`. `openai`: any
    other server of that protocol (llama.cpp, Ollama, SGLang). `litellm`: what LiteLLM calls
    `model`, as anthropic/claude-haiku-4-5. `local`: its weights in this process, by torch, for
    likelihoods only; `model`: whose pulled weights, if `path` doesn't say where they are.

    `api_key_env`: the variable that holds the key; without it in the environment a model that has
    no role is left out. `extra`: more fields of every request, as {reasoning_effort: none} or
    {chat_template_kwargs: {enable_thinking: false}}: what a model thinks is never shown but counts
    against an answer's length, so switch it off, or leave room by `max_tokens`. `context`: tokens
    it can hold, where it doesn't tell.

    `weight`: its share in the fused ranking until it has been fitted on data; 0 leaves the prior's
    order alone. `null`: how much of what a title is likely without any history is taken off its
    likelihood. `threads`, `cache_mb`: of a local model.

    `price`: what it costs, if not what LiteLLM's table says; `budget`: dollars a day (UTC) after
    which it isn't asked until the next. After `failures` overloads or outages in a row it isn't
    asked for `cool_down_s`, or for as long as it says itself.
    """

    backend: Literal["vllm", "openai", "litellm", "local"]
    model: str
    base_url: str = ""
    path: Path | None = None
    api_key_env: str | None = None
    hosted: bool | None = None
    weight: Share = 0.1
    null: Share = 0.6
    threads: int = Field(2, ge=1, le=256)
    cache_mb: int = Field(256, ge=1)
    price: Price | None = None
    budget: float | None = Field(None, ge=0)
    failures: int = Field(3, ge=1)
    cool_down_s: float = Field(10, ge=0)
    extra: dict[str, Any] = {}
    context: int | None = Field(None, ge=1)

    @field_validator("extra")
    @classmethod
    def _adds(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := OURS & set(extra):
            raise ValueError(
                f"{', '.join(sorted(taken))}: said elsewhere, or decided by each question"
            )
        return extra

    @model_validator(mode="after")
    def _reachable(self) -> Model:
        url, _port = urlsplit(self.base_url), urlsplit(self.base_url).port
        needed = self.backend in {"vllm", "openai"} or bool(self.base_url)
        if needed and (url.scheme not in {"http", "https"} or not url.hostname):
            raise ValueError("base_url: expected an http(s) URL, as http://127.0.0.1:8001/v1")
        if self.budget is not None and self.price is None and self.backend != "litellm":
            raise ValueError(
                "a budget needs a price: {input: 0.15, output: 0.6}, dollars per million tokens"
            )
        return self

    @property
    def costs(self) -> bool:
        """Does every call of it cost money? Nothing is asked of such a model for curiosity."""
        return self.price is not None or self.backend == "litellm"

    @property
    def leaves_the_house(self) -> bool:
        """Does a request to it leave the machine or its private network? Decides privacy; `hosted`
        overrules."""
        if self.hosted is not None or self.backend == "local":
            return bool(self.hosted)
        return outside(self.base_url)


class Roles(Section):
    """Which alias does what. `score`: tells likelihoods, for ranking by them and for what moved an
    item's score. `chat`: says which of the catalogue's values a wish means; else the one that
    explains does.

    `rank`: default: the first alias that can write, so none where there are no models: then the
    prior ranks. `explain`: default: the alias that ranks. `score`: where all models are local, the
    first one by default, since they do nothing else.
    """

    rank: str | None = None
    explain: str | None = None
    score: str | None = None
    chat: str | None = None


class StoreSettings(Section):
    url: str | None = Field(
        None, description="SQLAlchemy URL; default: whyrank.db under the data folder."
    )

    @field_validator("url")
    @classmethod
    def _sqlite(cls, url: str | None) -> str | None:
        if url is not None and (
            not url.startswith("sqlite:///") or url in {"sqlite:///", "sqlite:///:memory:"}
        ):
            raise ValueError("this build stores events in SQLite: sqlite:///PATH")
        return url


class CatalogSettings(Section):
    """`filterable`: attribute keys that requests may filter on, each a real column of the given
    type."""

    filterable: dict[Label, Literal["int", "float", "str", "bool", "list"]] = {}
    optimize_every_s: float = Field(60, gt=0)


class Embed(Section):
    """What embeds items and queries: in this process an ONNX sentence transformer with its
    tokenizer in `path`; with `base_url` and `model` a server of OpenAI's `/embeddings` (the key in
    the variable `api_key_env`). Another embedder, another space: `whyrank ingest --re-embed` moves
    the catalogue into it. `hosted` overrules whether that server is outside."""

    path: Path | None = None
    base_url: str = ""
    model: str = ""
    api_key_env: str | None = None
    hosted: bool | None = None
    timeout_s: float = Field(30, gt=0)
    threads: int = Field(1, ge=1, le=64)
    batch: int = Field(32, ge=1, le=1_024)

    @model_validator(mode="after")
    def _whole(self) -> Embed:
        if bool(self.base_url) != bool(self.model):
            raise ValueError("base_url and model go together")
        if self.base_url and urlsplit(self.base_url).scheme not in {"http", "https"}:
            raise ValueError("base_url: expected an http(s) URL, as http://127.0.0.1:8002/v1")
        return self

    @property
    def leaves_the_house(self) -> bool:
        """Does a text to be embedded leave the machine or its private network? Decides privacy, as
        a model's does."""
        return bool(self.base_url) and (
            outside(self.base_url) if self.hosted is None else self.hosted
        )


MEANINGS: dict[str, Meaning] = {
    "impression": Meaning(),
    "view": Meaning(weight=0.2, verb="viewed"),
    "click": Meaning(weight=0.3, verb="clicked"),
    "play": Meaning(weight=0.6, consumes=True, verb="played"),
    "like": Meaning(weight=1, consumes=True, verb="liked"),
    "unlike": Meaning(weight=-0.3, takes_back="like", verb="took back a like of"),
    "dislike": Meaning(weight=-1, consumes=True, verb="disliked"),
    "rating": Meaning(weight=1, consumes=True, scale=(1, 5), verb="rated"),
    "comment": Meaning(weight=0.4, verb="commented on"),
    "purchase": Meaning(weight=1, consumes=True, verb="bought"),
    "return": Meaning(weight=-0.8, consumes=True, verb="returned"),
    "add_to_cart": Meaning(weight=0.7, verb="put in the cart"),
    "remove_from_cart": Meaning(weight=-0.3, verb="took out of the cart"),
    "follow": Meaning(weight=0.8, consumes=True, verb="followed"),
    "subscribe": Meaning(weight=0.8, consumes=True, verb="subscribed to"),
    "share": Meaning(weight=0.8, verb="shared"),
    "skip": Meaning(weight=-0.4, verb="skipped"),
    "search": Meaning(verb="searched for"),
    "seen": Meaning(consumes=True, verb="has seen"),
    "block": Meaning(weight=-1, blocks=True, verb="blocked"),
    "unblock": Meaning(unblocks=True),
}
"""What the known event types mean in every domain, but for what `DOMAIN_MEANINGS` says
otherwise."""
DOMAIN_MEANINGS: dict[str, dict[str, Meaning]] = {
    "shop": {"like": Meaning(consumes=False)},
    "friends": {"like": Meaning(consumes=False)},
    "topics": {"like": Meaning(consumes=False)},
}
"""What is otherwise in a domain, field by field. Where a like is a good word for what is still to
be had, or followed, it does not consume."""


class EventSettings(Section):
    """What event types mean, where it is otherwise than built in, field by field, and what types of
    one's own mean. `types`: in every domain; `meanings`: in one (`generic`: in every). `types:
    {rating: {scale: [1, 10]}}` leaves the rest of a rating as it is.
    """

    future_tolerance_s: float = Field(300, ge=0)
    types: dict[Label, Meaning] = {}
    meanings: dict[Label, dict[Label, Meaning]] = {}

    @field_serializer("types")
    def _types_as_said(self, types: dict[str, Meaning]) -> dict[str, dict[str, Any]]:
        """Without what was not said, lest it overrule what is built in when it is read again."""
        return {name: meaning.model_dump(exclude_unset=True) for name, meaning in types.items()}

    @field_serializer("meanings")
    def _meanings_as_said(
        self, meanings: dict[str, dict[str, Meaning]]
    ) -> dict[str, dict[str, dict[str, Any]]]:
        return {domain: self._types_as_said(types) for domain, types in meanings.items()}

    def of(self, domain: str) -> dict[str, Meaning]:
        """What each known event type means in a domain."""
        known = dict(MEANINGS)
        for changes in (
            DOMAIN_MEANINGS.get(domain),
            self.types,
            self.meanings.get("generic"),
            self.meanings.get(domain),
        ):
            for name, change in (changes or {}).items():
                known[name] = change.over(known[name]) if name in known else change
        return known

    @property
    def known(self) -> frozenset[str]:
        """All types that mean something in some domain."""
        return frozenset(
            chain(MEANINGS, self.types, *DOMAIN_MEANINGS.values(), *self.meanings.values())
        )


class TrainingSettings(Section):
    """Of the matrix factorisation behind the collaborative source. `alpha`: how much more a like
    counts than no event; `regularization`: the paper's λ as a share of what the likes of a mean
    item count: what is best for films (20) is far too little for groceries, the same share suits
    films, groceries and books; from a half on it shrinks all to nothing.

    Trained anew when the log has grown by the share `growth` since the last time, which is looked
    at every `every_s`.
    """

    factors: int = Field(64, ge=2, le=512)
    alpha: float = Field(5, gt=0, le=1_000)
    regularization: float = Field(0.1, gt=0, le=0.5)
    iterations: int = Field(15, ge=1, le=200)
    growth: float = Field(0.1, gt=0)
    every_s: float = Field(300, gt=0)


class Retrieve(Section):
    """`k`: candidates kept after fusion. Source weights of the fused prior; 0 switches a source
    off.

    `similar` and `popular` rank for people whose likes nobody shares yet, and while there are too
    few people to learn from; between them the person's own taste counts more. Beside
    `collaborative` they are kept so small that they improve groceries and books and cost films
    nothing that can be shown (docs/ranking.md).
    """

    k: int = Field(50, ge=1, le=1_000)
    similar: Share = 0.05
    collaborative: Share = 1.0
    context: Share = 1.0
    query: Share = 1.0
    popular: Share = 0.01
    popular_half_life_days: float = Field(30, gt=0)
    training: TrainingSettings = TrainingSettings()


class Rank(Section):
    """`strategy`: how to rank; `auto` takes the first of `prefer` that the model can do and that is
    expected to be done by the deadline, and none where less than `least_history` is known of the
    person or the prior is clear (its best candidate is `clear_prior` standard deviations above the
    next).

    `depth`: so many candidates are judged by the model, `window` of them in one prompt; `shown`: in
    which order (shuffled: by a hash of the id). `orderings`: how often a model that writes is
    asked, each time with the candidates in another order. `titles`: so many liked titles are the
    history that a likelihood is told after.

    `recent_min`/`recent_max`: the anchored history window. `line_tokens`: bound on one item's line
    in a prompt, kept by cutting its UTF-8 bytes (a byte-level token holds at least one byte).
    `popularity`: how much of an item's log-popularity is taken off its score; `diversity`: how much
    being like a better-placed item takes off (maximal marginal relevance). `fitted`: weights that
    `whyrank fit` found take the place of configured ones; `weights`: their folder, if not weights/
    under the data folder.
    """

    strategy: Literal[
        "auto", "likelihood", "first_token", "listwise", "keyed", "pointwise", "prior"
    ] = "auto"
    prefer: list[Literal["likelihood", "first_token", "listwise", "keyed", "pointwise"]] = Field(
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

    @model_validator(mode="after")
    def _grows(self) -> Rank:
        if self.recent_min >= self.recent_max:
            raise ValueError(
                "recent_min must be below recent_max: the window grows from one to the other"
            )
        return self


class Weights(Section):
    """All that fusion weighs: sources of the prior, the model's share against it, popularity and
    likeness taken off."""

    similar: Share
    collaborative: Share = 0
    context: Share
    query: Share
    popular: Share
    model: Share
    null: Share = 0.6
    popularity: float = Field(0, ge=-1, le=1)
    diversity: Share = 0

    @property
    def sources(self) -> dict[str, float]:
        return {
            "similar": self.similar,
            "collaborative": self.collaborative,
            "context": self.context,
            "query": self.query,
            "popular": self.popular,
        }


class ExplainSettings(Section):
    """`top`: how many of the best are attributed and justified by a model; the rest of the returned
    items get template reasons. At least as many as are mostly asked for: which side of that line an
    item is on hangs on the others."""

    top: int = Field(10, ge=0, le=20)


class Rerank(Section):
    """Of documents that come with the request. `line_tokens`: so much of one is shown to a model.
    `json_query`: a query that is a JSON object may say who asks and what they did, for clients that
    can send nothing else, as Gorse."""

    line_tokens: int = Field(192, ge=16, le=2_000)
    json_query: bool = False


class Limits(Section):
    """What one request may hold: `top_n` items in an answer, `candidates` of the caller's choosing,
    `batch` elements of a feed, `body_bytes` in all; `documents` to rerank, `query_chars` of a query
    or an instruction; `messages` of a conversation, `message_chars` of each; `inputs` to embed.

    `rate`: requests a minute of a key that has no rate of its own, and of all callers together
    while no key is needed; none: unlimited. It is counted in the memory of one process: several
    processes let through as many times as much.
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


class Shadow(Section):
    """Another model that ranks beside the one that answers: for `share` of the rankings that people
    get, `at_once` of them at a time, so many `waiting`, the rest dropped. What it says is kept for
    'whyrank eval production' and shown to nobody.

    `model`: its alias; none: no shadow. `strategy`: how it is asked; `deadline_ms`: for how long,
    if not the service's.
    """

    model: str | None = None
    share: Share = 0.1
    strategy: Literal["auto", "likelihood", "first_token", "listwise", "keyed", "pointwise"] = (
        "auto"
    )
    deadline_ms: int | None = Field(None, ge=1, le=600_000)
    at_once: int = Field(1, ge=1, le=64)
    waiting: int = Field(16, ge=0, le=1_000)


class Privacy(Section):
    """What a hosted model may be shown. Never e-mail addresses, phone numbers, cards and IBANs;
    `phone_regions`: ISO codes of countries whose phone numbers are known without their
    international prefix. `names`: words that are taken out of what people wrote, as are street
    addresses and ids; a request may list more (`redact`).

    `item_attributes`: keys of items that are shown, none: those of `catalog.filterable`;
    `user_attributes`: keys of what people declared.
    """

    phone_regions: list[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]] = []
    names: list[Name] = []
    item_attributes: list[Key] | None = None
    user_attributes: list[Key] = []


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="WHYRANK_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

    data: Path = Path(".whyrank")
    api_key: SecretStr | None = None
    service: ServiceSettings = ServiceSettings()
    engine: EngineSettings = EngineSettings()
    models: dict[Label, Model] = {}
    roles: Roles = Roles()
    fallback: list[str] = []
    store: StoreSettings = StoreSettings()
    catalog: CatalogSettings = CatalogSettings()
    embed: Embed = Embed()
    events: EventSettings = EventSettings()
    retrieve: Retrieve = Retrieve()
    rank: Rank = Rank()
    explain: ExplainSettings = ExplainSettings()
    rerank: Rerank = Rerank()
    limits: Limits = Limits()
    shadow: Shadow = Shadow()
    privacy: Privacy = Privacy()
    _file: Path | None = PrivateAttr(None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @field_validator("api_key")
    @classmethod
    def _strong(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 16:
            raise ValueError("WHYRANK_API_KEY needs at least 16 characters")
        return key

    @model_validator(mode="after")
    def _roles_are_taken(self) -> Settings:
        """Gives the roles that nobody was named for to the models that can play them."""
        writers = [alias for alias, model in self.models.items() if model.backend != "local"]
        rank = self.roles.rank or next(iter(writers), None)
        score = self.roles.score or (None if writers else next(iter(self.models), None))
        roles = {"rank": rank, "explain": self.roles.explain or rank, "score": score}
        object.__setattr__(self, "roles", self.roles.model_copy(update=roles))
        return self

    @model_validator(mode="after")
    def _aliases_exist(self) -> Settings:
        likely = {
            "roles.score",
            *(["shadow.model"] if self.shadow.strategy in {"auto", "likelihood"} else []),
        }
        given = {f"roles.{role}": alias for role, alias in self.roles.model_dump().items()}
        given |= {"engine.model": self.engine.model, "shadow.model": self.shadow.model}
        named = {where: alias for where, alias in given.items() if alias is not None}
        named |= {f"fallback[{n}]": alias for n, alias in enumerate(self.fallback)}
        for where, alias in named.items():
            if alias not in self.models:
                raise ValueError(
                    f"{where} names {alias!r}, which is not under models "
                    f"({', '.join(self.models) or 'none'})"
                )
            if self.models[alias].backend == "local" and where not in likely:
                raise ValueError(
                    f"{where} names {alias!r}, whose backend local tells likelihoods only"
                )
        if not self.models and self.rank.strategy not in {"auto", "prior"}:
            raise ValueError(
                f"rank.strategy is {self.rank.strategy!r}, which asks a model, and there is "
                f"none under models"
            )
        return self

    def reread(self) -> Settings:
        """From the same file and the environment as they are now. Raises `ConfigError`, also where
        there was no file."""
        if self._file is None:
            raise ConfigError(
                "these settings were not read from a file: there is none to read anew"
            )
        return self.load(self._file)

    def differing(self, other: Settings) -> list[str]:
        """What is set otherwise there, as `roles.rank`."""
        return _differing(self.model_dump(), other.model_dump())

    def changed(self, parts: Mapping[str, Any]) -> Settings:
        """These settings with some keys replaced, at any depth. Raises `ConfigError` naming the key
        and reason."""
        try:
            # no variable has this prefix: the environment has had its say and must not undo the
            # change
            return type(self)(_env_prefix="unset ", **_merged(self.model_dump(), parts))
        except ValidationError as error:
            raise _explained(Path("settings"), error) from error

    @property
    def store_url(self) -> str:
        return self.store.url or f"sqlite:///{(self.data / 'whyrank.db').resolve()}"

    @property
    def embedder_path(self) -> Path:
        return self.embed.path or self.data / "models" / "minilm"

    @property
    def served(self) -> str | None:
        """The alias that the local engine serves; None where no model's backend is vllm."""
        ours = [alias for alias, model in self.models.items() if model.backend == "vllm"]
        return self.engine.model or (
            self.roles.rank if self.roles.rank in ours else next(iter(ours), None)
        )

    @property
    def weights_folder(self) -> Path:
        return self.rank.weights or self.data / "weights"

    def configured(self, alias: str | None) -> Weights:
        """What is weighed how while nothing has been fitted; None: without a model."""
        sources, rank = self.retrieve, self.rank
        model = self.models[alias] if alias is not None else None
        return Weights(
            similar=sources.similar,
            collaborative=sources.collaborative,
            context=sources.context,
            query=sources.query,
            popular=sources.popular,
            model=model.weight if model is not None else 0,
            null=model.null if model is not None else 0,
            popularity=rank.popularity,
            diversity=rank.diversity,
        )

    def fitted(self) -> dict[str, Weights]:
        """By `{domain}.{alias}`, what `whyrank fit` found. Raises `ConfigError` naming a file that
        can't be used."""
        found = {}
        for file in sorted(self.weights_folder.glob("*.yaml")) if self.rank.fitted else ():
            try:
                found[file.stem] = Weights.model_validate(
                    yaml.safe_load(file.read_text())["weights"]
                )
            except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{file}: no fitted weights: {error!r}; 'whyrank fit' writes it anew"
                ) from error
            except ValidationError as error:
                raise _explained(file, error) from error
        return found

    def weights_path(self, alias: str) -> Path:
        model = self.models[alias]
        return model.path or self.data / "models" / (
            model.model if model.backend == "local" else alias
        )

    @classmethod
    def load(cls, path: str | Path | None = None) -> Settings:
        """Read the configuration. Raises `ConfigError` naming file, key and reason."""
        file = Path(path or os.environ.get("WHYRANK_CONFIG") or HOUSE / "configs" / "cpu.yaml")
        try:
            content = yaml.safe_load(file.read_text()) or {}
        except OSError as error:
            raise ConfigError(f"{file}: can't be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: not UTF-8: {error}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{file}: not YAML: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{file}: expected keys and values, found {type(content).__name__}")
        if "api_key" in content:
            raise ConfigError(
                f"{file}: api_key: a secret; set WHYRANK_API_KEY in the environment",
                param="api_key",
            )
        if stray := _stray_variables(set(cls.model_fields)):
            raise ConfigError(f"environment {stray[0]}: no such setting", param=stray[0])
        given = {
            key: value for key, value in content.items() if value is not None
        }  # all under a key may be commented out
        try:
            found = cls(**given)
            found._file = file
            return found
        except ValidationError as error:
            raise _explained(file, error) from error


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    deeper = {
        key: _merged(old[key], value)
        for key, value in new.items()
        if isinstance(value, Mapping) and isinstance(old.get(key), Mapping)
    }
    return {**old, **new, **deeper}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], under: str = "") -> list[str]:
    found = []
    for key in {**one, **other}:
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differing(a, b, f"{under}{key}.")
        elif a != b:
            found.append(f"{under}{key}")
    return found


def _stray_variables(known: set[str]) -> list[str]:
    ours = {
        name: name.removeprefix("WHYRANK_").lower().split("__")[0]
        for name in os.environ
        if name.startswith("WHYRANK_")
    }
    return sorted(name for name, key in ours.items() if key not in known | {"config"})


def _explained(file: Path, error: ValidationError) -> ConfigError:
    lines = []
    for found in error.errors(include_url=False, include_input=False):
        key = ".".join(map(str, found["loc"])) or "settings"
        variable = f"WHYRANK_{key.upper().replace('.', '__')}"
        where = f"environment {variable}" if variable in os.environ else f"{file}"
        reason = (
            "no such setting"
            if found["type"] == "extra_forbidden"
            else found["msg"].removeprefix("Value error, ")
        )
        lines.append(f"{where}: {key}: {reason}")
    return ConfigError("\n".join(lines), param=str(error.errors()[0]["loc"]))
