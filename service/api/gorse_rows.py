"""Gorse's items, users, feedback and answers, in its spelling."""

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from service.api.shapes import by_field
from service.schema import Event, Item, Rejection, User

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time, which in Gorse means that there is no time."""


class Pascal(BaseModel):
    """A model whose JSON keys are in PascalCase, as in Gorse."""

    model_config = ConfigDict(alias_generator=to_pascal, validate_by_name=True)


class Sent(Pascal):
    """What clients send."""

    model_config = ConfigDict(json_schema_extra=by_field)


class GorseFeedback(Sent):
    feedback_type: str = Field(
        description="What was done, in lower case: the event's type.", examples=["like"]
    )
    user_id: str = Field(description="By whom.", examples=["127"])
    item_id: str = Field(description="With which item.", examples=["181"])
    value: float | None = Field(None, description="As a rating of 1 to 5.", examples=[4.5])
    timestamp: str = Field(
        description="When. ISO 8601 and most other spellings are read; none: now.",
        examples=["2026-01-31T12:00:00Z"],
    )
    comment: str = Field("", description="In words: the event's text.", examples=[""])

    @classmethod
    def of(cls, event: Event) -> Self:
        return cls(
            feedback_type=event.type,
            user_id=event.user_id or "",
            item_id=event.item_id or "",
            value=event.value,
            timestamp=time_text(event.occurred_at),
            comment=event.text or "",
        )


class GorseItem(Sent):
    item_id: str = Field(description="The caller's own id.", examples=["181"])
    is_hidden: bool = Field(False, description="Never to be shown.", examples=[False])
    categories: list[Any] = Field(
        [], description="The attribute `categories`.", examples=[["Sci-Fi"]]
    )
    timestamp: str = Field(
        NEVER, description="When it was published.", examples=["1983-05-25T00:00:00Z"]
    )
    labels: Any = Field(
        None,
        description=(
            "A list, or an object of attributes, where `title`, `text`, `url` and "
            "`image_url` are the item's own."
        ),
        examples=[["space", "rebels"], {"year": 1983, "director": "Marquand"}],
    )
    comment: str = Field(
        "",
        description="The title; the text, if it is long or `Labels` hold a title.",
        examples=["Return of the Jedi"],
    )

    @classmethod
    def of(cls, item: Item) -> Self:
        labels = {key: value for key, value in item.attributes.items() if key != "categories"}
        categories = item.attributes.get("categories", [])
        own_fields = {
            "title": item.title if item.text else "",
            "url": item.url,
            "image_url": item.image_url,
        }
        labels |= {key: value for key, value in own_fields.items() if value}
        return cls(
            item_id=item.id,
            is_hidden=not item.available,
            categories=categories if isinstance(categories, list) else [categories],
            timestamp=time_text(item.published_at) if item.published_at else NEVER,
            labels=_labels(labels),
            comment=item.text or item.title,
        )


class GorseUser(Sent):
    user_id: str = Field(description="The caller's own id.", examples=["127"])
    labels: Any = Field(
        None,
        description="A list, or an object whose keys are attributes.",
        examples=[["horror"], {"age": 33}],
    )
    comment: str = Field("", description="The attribute `comment`.", examples=[""])

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            user_id=user.user_id,
            labels=_labels(
                {key: value for key, value in user.attributes.items() if key != "comment"}
            ),
            comment=str(user.attributes.get("comment", "")),
        )


class ItemPatch(Sent):
    """What is absent or null stays as it is."""

    is_hidden: bool | None = Field(None, description="Never to be shown.", examples=[True])
    categories: list[Any] | None = Field(
        None, description="Replaces all of them.", examples=[["Sci-Fi"]]
    )
    timestamp: str | None = Field(
        None, description="When it was published.", examples=["1983-05-25T00:00:00Z"]
    )
    labels: Any = Field(None, description="Replaces all of them.", examples=[["space"]])
    comment: str | None = Field(
        None, description="The title, or the text.", examples=["Return of the Jedi"]
    )


class LabelsPatch(Sent):
    """What is absent or null stays as it is."""

    labels: Any = Field(None, description="Replaces all of them.", examples=[["horror"]])
    comment: str | None = Field(
        None, description="The attribute `comment`.", examples=["met in May"]
    )


class RowAffected(Pascal):
    row_affected: int = Field(
        description="How many were taken, those that were known already included.", examples=[1]
    )
    rejected: list[Rejection] | None = Field(
        None, description="Why others were not; absent if all were."
    )
    warnings: list[str] | None = Field(
        None, description="What may not be as it was meant, in words; absent if nothing."
    )


class Score(Pascal):
    id: str = Field(description="Of the item.", examples=["181"])
    score: float = Field(description="In (0, 1), falling strictly.", examples=[0.908])


class GorsePage(Pascal):
    cursor: str = Field(description="Of the next page; empty: this is the last.", examples=[""])


class Items(GorsePage):
    items: list[GorseItem] = Field(description="By id.")


class UserPage(GorsePage):
    users: list[GorseUser] = Field(description="By id.")


class Feedbacks(GorsePage):
    feedback: list[GorseFeedback] = Field(description="In the order in which it arrived.")


def _labels(attributes: dict[str, Any]) -> Any:
    """Attributes as `Labels`: a list if they were sent as one, None if there are none."""
    return attributes["labels"] if set(attributes) == {"labels"} else attributes or None


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC, as Go writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
