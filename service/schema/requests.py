"""What can be asked for: recommendations, an order of documents, a conversation's next turn."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from service.schema.rankings import ItemField, Ranking, Usage
from service.schema.records import (
    LONGEST_ID,
    Content,
    Event,
    Id,
    Item,
    Key,
    Label,
    Locale,
    Name,
    Text,
    Value,
)
from service.schema.wishes import Filter, Understood

FASTER, PRIOR = "whyrank-fast", "whyrank-prior"
"""Model ids: `FASTER` asks only strategies that write no text, and for no written reasons; `PRIOR`
asks no model."""
LONGEST_INSTRUCTION = 2_000
"""Characters."""


class PersonalRequest(Value):
    """Fields of every request: for whom, and how it is to be answered."""

    user_id: Id | None = Field(None, description="Whose history to use.")
    session_id: Id | None = Field(
        None, description="A visitor's session; its anonymous events count as history."
    )
    top_n: int | None = Field(None, ge=1)
    domain: Label | None = Field(
        None, description="Selects prompts and event meanings; the service's by default."
    )
    locale: Locale | None = Field(
        None,
        description="Language of the reasons; by default the user's, else that of the instruction.",
    )
    strategy: str | None = Field(
        None, description="auto, likelihood, first_token, listwise, keyed, pointwise or prior."
    )
    model: str | None = Field(
        None, description="`whyrank`, `whyrank-prior`, or a configured model alias."
    )
    explain: Literal["none", "short", "full"] = Field(
        "short",
        description=(
            "Reasons for the best items; full: with each source's rank, the facts of each reason, "
            "and which of the person's items draw it."
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


class CatalogRequest(PersonalRequest):
    """Fields of requests that choose among the catalogue's items."""

    candidates: list[Id] | None = Field(
        None,
        min_length=1,
        description=(
            "Rank exactly these catalogue items instead of retrieving. Unknown ids rank last."
        ),
    )
    filters: dict[Key, Filter] = Field(
        {}, description="Conditions on `id` and on keys in catalog.filterable."
    )
    exclude: list[Id] = Field([], max_length=10_000, description="Items never to return.")
    prompt_id: str | None = Field(
        None, description="A ranking prompt other than the domain's, as `movies/rank`."
    )
    prompt_version: str | None = Field(
        None, description="Refuse unless the prompt has this version."
    )

    @model_validator(mode="after")
    def _check_candidates(self) -> Self:
        if len(set(self.candidates or ())) < len(self.candidates or ()):
            raise ValueError("candidates holds an id twice")
        if self.candidates is not None and self.filters:
            raise ValueError(
                "filters choose what is retrieved; with candidates there is nothing to retrieve"
            )
        return self


def _describe_recommend_request(schema: dict[str, Any]) -> None:
    """Adds an example, and orders the fields by subject: inherited ones would come first."""
    order = (
        *("user_id", "session_id", "top_n", "candidates", "context_items", "instruction"),
        *("understood", "filters", "exclude", "avoid", "domain", "locale", "strategy", "model"),
        *("prompt_id", "prompt_version", "explain", "deadline_ms", "redact", "fields", "stream"),
    )
    schema["properties"] = {name: schema["properties"][name] for name in order}
    schema["examples"] = [
        {
            "user_id": "127",
            "top_n": 5,
            "instruction": "something funny",
            "filters": {"year": {"gte": 1990}},
        }
    ]


class RecommendRequest(CatalogRequest, json_schema_extra=_describe_recommend_request):
    """What to rank, for whom, and how. Everything is optional: with nothing known, popularity
    answers."""

    top_n: int = Field(10, ge=1, description="How many items to return.")
    context_items: list[Id] = Field(
        [], max_length=100, description="More like these items, as those of a playlist."
    )
    instruction: Annotated[Text, StringConstraints(max_length=LONGEST_INSTRUCTION)] | None = Field(
        None, description="What the person wants now, in words."
    )
    understood: Understood | None = Field(
        None,
        description="What the instruction means, instead of what would be read in it: an answer's "
        "`understood`, corrected.",
    )
    avoid: list[Annotated[Text, StringConstraints(max_length=100)]] = Field(
        [],
        max_length=100,
        description="Words; nothing that has one as an attribute's value is retrieved.",
        examples=[["Horror"]],
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
    def _check_context_items(self) -> Self:
        if len(set(self.context_items)) < len(self.context_items):
            raise ValueError("context_items holds an id twice")
        return self


class Document(Content):
    """Something to rank that need not be in the catalogue. If the catalogue has an item of its
    `id`, that supplies the fields that are not given here."""

    @property
    def name(self) -> str | None:
        """The document's id, else its text if that may be an id: short, and without a title. For
        where bare texts are ids."""
        return self.id or (
            self.text if 0 < len(self.text) <= LONGEST_ID and not self.title else None
        )

    def over(self, known: Item | None) -> Item:
        """The document as an item: its own fields, the rest from the catalogue's item `known`. The
        item's id is that of `known`, or empty."""
        item = known or Item.model_construct(id="")
        # a text that is the item's id only names the item
        text = "" if known is not None and self.text == known.id else self.text
        fields = {
            "title": self.title,
            "text": text,
            "attributes": {**item.attributes, **self.attributes},
            "url": self.url,
            "image_url": self.image_url,
            "published_at": self.published_at,
        }
        return item.model_copy(update={name: value for name, value in fields.items() if value})


class InlineEvent(Value):
    """Something the person did that is sent with the request; it counts for this request only and
    is not stored."""

    item_id: Id
    type: Label = "like"


class RerankRequest(PersonalRequest):
    """Documents to put in order, for a query, a person, or both. `top_n`: how many to return, None
    for all; `line_tokens`: how much of a document a model is shown at most; `documents_are_ids`:
    whether a short text alone names the item of the catalogue that has it as its id, if there is
    one; the rest as in `RecommendRequest`."""

    query: Text = ""
    documents: Annotated[list[Document], Field(min_length=1)]
    history: Annotated[list[InlineEvent], Field(max_length=1_000)] = []
    documents_are_ids: bool = False
    line_tokens: int | None = Field(None, ge=1)
    explain: Literal["none", "short", "full"] = "none"


class Reranked(Value):
    """A ranking of documents. `places`: for each ranked item, its document's index in the request;
    `warnings`: what was done otherwise than one might think, in words."""

    ranking: Ranking
    places: list[int]
    warnings: list[str] = []


class Turn(Value):
    """A message of a conversation."""

    role: Literal["user", "assistant"]
    text: Text


class ChatRequest(CatalogRequest):
    """A conversation whose last turn is the person's.

    `shape`: a JSON schema that the answer's text must follow, or {} for any JSON object; `note`:
    whether what the person says of their taste may be stored as events; `documents`: items to
    choose among instead of the catalogue's; `top_n`: the most picks that a turn may ask for; None:
    as many as it asks for, 5 if it names no number. The rest as in `RecommendRequest`.
    """

    turns: Annotated[list[Turn], Field(min_length=1)]
    shape: dict[str, Any] | None = None
    note: bool = True
    documents: list[Document] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _check_turns_and_documents(self) -> Self:
        if self.turns[-1].role != "user":
            raise ValueError("the last message must be the user's")
        if self.documents is not None and (self.candidates is not None or self.filters):
            raise ValueError(
                "documents are all there is to choose among: no candidates, no filters beside them"
            )
        return self


class ChatReply(Value):
    """The answer to a conversation's last turn. `text`: the whole answer; `ranking`: the ranking
    that its picks come from; `noted`: the events made of what the person said."""

    text: str
    kind: Literal["recommend", "why", "about", "smalltalk", "offtopic"]
    ranking: Ranking | None = None
    noted: list[Event] = []
    usage: Usage = Usage()
