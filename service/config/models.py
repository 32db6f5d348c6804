"""Language models, their roles, and the embedder."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from service.config.sections import Section, Share, WeightByHistory
from service.schema import Price

RESERVED_FIELDS = frozenset(
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
"""Fields of a request to a model that the service sets itself; `extra` can't."""


def _is_external(url: str) -> bool:
    """Whether a URL's host lies beyond this machine and its private network, as far as its name
    tells. True without a host: LiteLLM then calls a provider of its own."""
    host = urlsplit(url).hostname
    try:
        return host is None or not ip_address(host).is_private
    except ValueError:
        return host != "localhost" and "." in str(host)


class Model(Section):
    """One language model. `backend`: how it is called:
    - `vllm`: a vLLM server at `base_url` that knows it by the name `model`;
    - `openai`: any other server of OpenAI's protocol (llama.cpp, Ollama, SGLang);
    - `litellm`: the LiteLLM library, where it is called `model`, as anthropic/claude-haiku-4-5;
    - `local`: torch in this process, for likelihoods only. Its weights are in `path`, else in the
      folder into which `whyrank models pull` puts those of `model`.

    `api_key_env`: the environment variable that holds the API key; if it is not set, a model
    without a role is left out. `hosted`: whether it is outside, if its URL doesn't tell. `extra`:
    more fields of every request, as {reasoning_effort: none} or
    {chat_template_kwargs: {enable_thinking: false}}: a model's thoughts are never shown but count
    against an answer's length, so switch them off, or leave room by `max_tokens`. `context`: tokens
    it can hold, if the server doesn't tell.

    `weight`: its share in the fused ranking until weights were fitted on data, one number or four
    by how much a person liked, as those of sources; where it is 0, `auto` doesn't ask it. `null`:
    how much of a title's likelihood without any history is subtracted from its likelihood.
    `threads`, `cache_mb`: of a local model.

    `price`: what it costs; default: what LiteLLM's table says. `budget`: US dollars a day
    (UTC); when they are spent the model isn't asked until the next day. After `failures` overloads
    or outages in a row it isn't asked for `cool_down_s`, or for as long as the server says.
    """

    backend: Literal["vllm", "openai", "litellm", "local"]
    model: str
    base_url: str = ""
    path: Path | None = None
    api_key_env: str | None = None
    hosted: bool | None = None
    weight: WeightByHistory = 0.1
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
    def _refuse_reserved_fields(cls, extra: dict[str, Any]) -> dict[str, Any]:
        reserved = sorted(RESERVED_FIELDS & set(extra))
        if reserved:
            raise ValueError(f"{', '.join(reserved)}: said elsewhere, or decided by each question")
        return extra

    @model_validator(mode="after")
    def _check_url_and_price(self) -> Self:
        url = urlsplit(self.base_url)
        _ = url.port  # raises ValueError if it is no number
        needs_url = self.backend in {"vllm", "openai"} or bool(self.base_url)
        if needs_url and (url.scheme not in {"http", "https"} or not url.hostname):
            raise ValueError("base_url: expected an http(s) URL, as http://127.0.0.1:8001/v1")
        if self.budget is not None and self.price is None and self.backend != "litellm":
            raise ValueError(
                "a budget needs a price: {input: 0.15, output: 0.6}, dollars per million tokens"
            )
        return self

    @property
    def costs(self) -> bool:
        """Whether every call costs money. Such a model is never asked merely to learn about it."""
        return self.price is not None or self.backend == "litellm"

    @property
    def leaves_the_house(self) -> bool:
        """Whether a request to this server leaves this machine and its private network; `hosted`
        overrules what the URL says. It decides which private data the server may see."""
        if self.hosted is not None or self.backend == "local":
            return bool(self.hosted)
        return _is_external(self.base_url)


class Roles(Section):
    """The alias of the model for each task.

    `rank`: ranks; default: the first model that can write text. Without one the prior ranks.
    `explain`: writes reasons; default: the model that ranks. `score`: computes likelihoods, to rank
    by them and to tell what moved an item's score; default: none, or the first model if all are
    local, since these can do nothing else. `chat`: reads what the rules leave open of a wish
    or of a turn of a conversation; default: the model that explains.
    """

    rank: str | None = None
    explain: str | None = None
    score: str | None = None
    chat: str | None = None


class Embed(Section):
    """What embeds items and queries: by default an encoder of 16 languages in this process; with
    `path` an ONNX sentence transformer whose files are in that folder, as `whyrank models pull
    minilm` makes one for English; with `base_url` and `model` a server with OpenAI's `/embeddings`,
    its API key in the environment variable `api_key_env`. Vectors of different embedders can't be
    compared: after a change run `whyrank ingest --re-embed`. `hosted`: whether that server is
    outside, if its URL doesn't tell. `threads`: cores that one call may use here. `batch`: texts a
    call, or a request to the server."""

    path: Path | None = None
    base_url: str = ""
    model: str = ""
    api_key_env: str | None = None
    hosted: bool | None = None
    timeout_s: float = Field(30, gt=0)
    threads: int = Field(1, ge=1, le=64)
    batch: int = Field(32, ge=1, le=1_024)

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        if bool(self.base_url) != bool(self.model):
            raise ValueError("base_url and model go together")
        if self.base_url and urlsplit(self.base_url).scheme not in {"http", "https"}:
            raise ValueError("base_url: expected an http(s) URL, as http://127.0.0.1:8002/v1")
        return self

    @property
    def leaves_the_house(self) -> bool:
        """Whether a text to be embedded leaves this machine and its private network. What private
        data it may hold depends on this."""
        return bool(self.base_url) and (
            _is_external(self.base_url) if self.hosted is None else self.hosted
        )
