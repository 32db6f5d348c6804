"""Gorse's API: a client of Gorse needs our URL and nothing else.

Bodies are checked element by element: `RowAffected` counts those that were taken, `Rejected`, which
Gorse has not, tells why others were not, and `Warnings` what may not be as it was meant. 422 if
none was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_pascal

from service.api.needs import (
    FeedBody,
    FeedDep,
    JsonRoute,
    PathId,
    RecommenderDep,
    Segment,
    feed_body,
)
from service.api.pages import cursor_of, cut, key_of, walk_of
from service.api.shapes import by_field
from service.errors import BadRequest
from service.pipeline import Recommender
from service.schema import Event, Filter, IngestReport, Item, RecommendRequest, Rejection, User
from service.schema import Feed as FeedName

router = APIRouter(prefix="/api", tags=["Gorse"], route_class=JsonRoute)

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time, which is how Gorse says that there is none."""

MOST = 10_000
NQuery = Annotated[int, Query(ge=1, le=MOST, description="How many at most.", examples=[10])]
CursorQuery = Annotated[
    str, Query(description="`Cursor` of the page before; empty: from the start.", examples=[""])
]
TypePath = Annotated[
    str, Segment, Path(max_length=256, description="In any spelling: `AddToCart` is `add_to_cart`.")
]
OffsetQuery = Annotated[
    int, Query(ge=0, le=MOST, description="Leave out so many of the best.", examples=[0])
]
Version = Annotated[
    str,
    Header(
        alias="X-API-Version", description="2: with scores, as newer clients ask.", examples=["2"]
    ),
]
Category = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Pascal(BaseModel):
    """In Gorse's spelling."""

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
    def of(cls, event: Event) -> GorseFeedback:
        return cls(
            feedback_type=event.type,
            user_id=event.user_id or "",
            item_id=event.item_id or "",
            value=event.value,
            timestamp=_told(event.occurred_at),
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
    def of(cls, item: Item) -> GorseItem:
        rest = {key: value for key, value in item.attributes.items() if key != "categories"}
        categories = item.attributes.get("categories", [])
        own = {
            "title": item.title if item.text else "",
            "url": item.url,
            "image_url": item.image_url,
        }
        return cls(
            item_id=item.id,
            is_hidden=not item.available,
            categories=categories if isinstance(categories, list) else [categories],
            timestamp=_told(item.published_at) if item.published_at else NEVER,
            labels=_labels({**rest, **{key: value for key, value in own.items() if value}}),
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
    def of(cls, user: User) -> GorseUser:
        rest = {key: value for key, value in user.attributes.items() if key != "comment"}
        return cls(
            user_id=user.user_id,
            labels=_labels(rest),
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


class GorseUserPatch(Sent):
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


class Items(Pascal):
    cursor: str = Field(description="Of the next page; empty: this is the last.", examples=[""])
    items: list[GorseItem] = Field(description="By id.")


class GorseUsers(Pascal):
    cursor: str = Field(description="Of the next page; empty: this is the last.", examples=[""])
    users: list[GorseUser] = Field(description="By id.")


class Feedbacks(Pascal):
    cursor: str = Field(description="Of the next page; empty: this is the last.", examples=[""])
    feedback: list[GorseFeedback] = Field(description="In the order in which it arrived.")


# ── feedback ──────────────────────────────────────────────────────────────────────────────────────


@router.post(
    "/feedback",
    summary="Take feedback",
    response_model_exclude_none=True,
    openapi_extra=feed_body(GorseFeedback),
)
async def insert_feedback(feed: FeedDep, recommender: RecommenderDep) -> RowAffected:
    """Sending the same again changes nothing. Gorse ignores a second row of the same type, user and
    item; our log keeps what was done again at another time, and what was done last counts."""
    return await _take(recommender, "events", feed)


@router.put(
    "/feedback",
    summary="Overwrite feedback",
    response_model_exclude_none=True,
    openapi_extra=feed_body(GorseFeedback),
)
async def overwrite_feedback(feed: FeedDep, recommender: RecommenderDep) -> RowAffected:
    """The log is only appended to: the new row follows the old one, and as of two of the same type,
    user and item the later (by `Timestamp`; without one it is now) counts, and is all that is
    listed, it takes the other's place."""
    now = _told(datetime.now(UTC))
    feed.rows = [{"Timestamp": now, **row} if isinstance(row, dict) else row for row in feed.rows]
    return await _take(recommender, "events", feed)


@router.delete(
    "/feedback/{user_id}/{item_id}", summary="Take feedback back", response_model_exclude_none=True
)
async def delete_feedback(
    user_id: PathId, item_id: PathId, recommender: RecommenderDep
) -> RowAffected:
    """All that a user ever said of an item leaves the log, and the next ranking knows nothing of
    it."""
    return RowAffected(row_affected=await recommender.unsay(user_id, item_id))


@router.delete(
    "/feedback/{feedback_type}/{user_id}/{item_id}",
    summary="Take feedback of one type back",
    response_model_exclude_none=True,
)
async def delete_typed(
    feedback_type: TypePath, user_id: PathId, item_id: PathId, recommender: RecommenderDep
) -> RowAffected:
    """What a user said of an item in other ways stays."""
    return RowAffected(row_affected=await recommender.unsay(user_id, item_id, feedback_type))


@router.get("/feedback", summary="All feedback, a page at a time", response_model_exclude_none=True)
async def list_feedback(
    recommender: RecommenderDep, cursor: CursorQuery = "", n: NQuery = 10
) -> Feedbacks:
    """In the order in which it arrived, of each type, user and item what was said last; visitors
    without an id are left out. A page may be short; the last is the one with an empty `Cursor`."""
    return await _page(recommender, cursor, n)


@router.get(
    "/feedback/{feedback_type}", summary="Feedback of one type", response_model_exclude_none=True
)
async def list_typed(
    feedback_type: TypePath, recommender: RecommenderDep, cursor: CursorQuery = "", n: NQuery = 10
) -> Feedbacks:
    """In the order in which it arrived; otherwise as all feedback."""
    return await _page(recommender, cursor, n, feedback_type)


@router.get(
    "/user/{user_id}/feedback", summary="A user's feedback", response_model_exclude_none=True
)
async def list_of_user(user_id: PathId, recommender: RecommenderDep) -> list[GorseFeedback]:
    """The first 10,000 rows."""
    return await _of_user(recommender, user_id)


@router.get(
    "/user/{user_id}/feedback/{feedback_type}",
    summary="A user's feedback",
    response_model_exclude_none=True,
)
async def list_typed_of_user(
    user_id: PathId, feedback_type: TypePath, recommender: RecommenderDep
) -> list[GorseFeedback]:
    """The first 10,000 rows of one type."""
    return await _of_user(recommender, user_id, feedback_type)


# ── items ─────────────────────────────────────────────────────────────────────────────────────────


@router.post(
    "/item",
    summary="Insert or replace an item",
    response_model_exclude_none=True,
    openapi_extra=feed_body(GorseItem),
)
@router.post(
    "/items",
    summary="Insert or replace items",
    response_model_exclude_none=True,
    openapi_extra=feed_body(GorseItem),
)
async def insert_items(feed: FeedDep, recommender: RecommenderDep) -> RowAffected:
    """Durable before this answers; vectors follow in the background."""
    return await _take(recommender, "items", feed)


@router.get("/items", summary="All items, a page at a time")
async def list_items(
    recommender: RecommenderDep,
    cursor: CursorQuery = "",
    n: NQuery = 10,
    q: Annotated[str, Query(description="Not done here.", examples=[""])] = "",
) -> Items:
    """By id. What was there when the walk began comes once, whatever arrives meanwhile."""
    if q:
        raise BadRequest(
            "q: no search here; ask /v1/recommendations with it as instruction", param="q"
        )
    found = await recommender.list_items(key_of("items", cursor), n + 1)
    page, following = cut("items", found, n, lambda item: item.id)
    return Items(cursor=following or "", items=[GorseItem.of(item) for item in page])


@router.get("/item/{item_id}", summary="One item")
async def get_item(item_id: PathId, recommender: RecommenderDep) -> GorseItem:
    """In Gorse's words, whoever sent it."""
    return GorseItem.of(await recommender.item(item_id))


@router.patch("/item/{item_id}", summary="Change an item", response_model_exclude_none=True)
async def modify_item(
    item_id: PathId, patch: ItemPatch, recommender: RecommenderDep
) -> RowAffected:
    """Only what is given changes. Durable before this answers."""
    return await _change(recommender, "items", item_id, GorseItem.of, patch)


@router.delete(
    "/item/{item_id}", summary="Take an item out of the catalogue", response_model_exclude_none=True
)
async def delete_item(item_id: PathId, recommender: RecommenderDep) -> RowAffected:
    """Unlike Gorse we keep the feedback on it; it is used again should the item return."""
    await recommender.delete_item(item_id)
    return RowAffected(row_affected=1)


# ── users ─────────────────────────────────────────────────────────────────────────────────────────


@router.post(
    "/user",
    summary="Insert or replace a user",
    response_model_exclude_none=True,
    openapi_extra=feed_body(GorseUser),
)
@router.post(
    "/users",
    summary="Insert or replace users",
    response_model_exclude_none=True,
    openapi_extra=feed_body(GorseUser),
)
async def insert_users(feed: FeedDep, recommender: RecommenderDep) -> RowAffected:
    """What Gorse has no word for (`locale`, `allow_hosted`, `profile`) stays as it was."""
    return await _take(recommender, "users", feed)


@router.get("/users", summary="All users, a page at a time")
async def list_users(
    recommender: RecommenderDep, cursor: CursorQuery = "", n: NQuery = 10
) -> GorseUsers:
    """By id; also those who only acted and were never sent."""
    found = await recommender.list_users(key_of("users", cursor), n + 1)
    page, following = cut("users", found, n, lambda user: user.user_id)
    return GorseUsers(cursor=following or "", users=[GorseUser.of(user) for user in page])


@router.get("/user/{user_id}", summary="One user")
async def get_user(user_id: PathId, recommender: RecommenderDep) -> GorseUser:
    """In Gorse's words; without labels, one who only acted."""
    return GorseUser.of(await recommender.user(user_id))


@router.patch("/user/{user_id}", summary="Change a user", response_model_exclude_none=True)
async def modify_user(
    user_id: PathId, patch: GorseUserPatch, recommender: RecommenderDep
) -> RowAffected:
    """Only what is given changes, and the next ranking knows it."""
    return await _change(recommender, "users", user_id, GorseUser.of, patch)


@router.delete("/user/{user_id}", summary="Forget a user", response_model_exclude_none=True)
async def delete_user(user_id: PathId, recommender: RecommenderDep) -> RowAffected:
    """With their feedback and what they were shown."""
    await recommender.forget(user_id)
    return RowAffected(row_affected=1)


# ── recommendations ───────────────────────────────────────────────────────────────────────────────


@router.get("/recommend/{user_id}/", include_in_schema=False)
@router.get("/recommend/{user_id}", summary="Ids of what to show next, best first")
async def recommend(
    user_id: PathId,
    recommender: RecommenderDep,
    n: NQuery = 10,
    offset: OffsetQuery = 0,
    category: Annotated[
        list[Category] | None, Query(max_length=100, description="Any of these `Categories`.")
    ] = None,
    write_back_type: Annotated[
        str,
        Query(
            alias="write-back-type",
            description="Not done here: send what was shown as feedback.",
            examples=[""],
        ),
    ] = "",
    version: Version = "1",
) -> list[str] | list[Score]:
    """Ranked as `/v1/recommendations` ranks, without reasons. `category` needs `catalog.filterable:
    {categories: list}`."""
    if write_back_type:
        raise BadRequest(
            "write-back-type: send what was shown to POST /api/feedback instead",
            param="write-back-type",
        )
    filters = {"categories": Filter(any=[*category])} if category else {}
    asked = RecommendRequest(user_id=user_id, top_n=n + offset, filters=filters, explain="none")
    ranked = (await recommender.recommend(asked)).items[offset:]
    if version == "2":
        return [Score(id=one.item_id, score=one.score) for one in ranked]
    return [one.item_id for one in ranked]


@router.get("/recommend/{user_id}/{category}", summary="Ids of what to show next within a category")
async def recommend_in(
    user_id: PathId,
    category: Annotated[Category, Segment, Path(description="One of the items' `Categories`.")],
    recommender: RecommenderDep,
    n: NQuery = 10,
    offset: OffsetQuery = 0,
    version: Version = "1",
) -> list[str] | list[Score]:
    """As without one, of items that have it in `Categories`."""
    return await recommend(user_id, recommender, n, offset, [category], version=version)


# ── what they share ───────────────────────────────────────────────────────────────────────────────


async def _take(recommender: Recommender, name: FeedName, feed: FeedBody) -> RowAffected:
    return _affected(feed.report(await recommender.ingest_foreign("gorse", feed.rows, name)))


SAYS = {
    "is_hidden": {"available"},
    "timestamp": {"published_at"},
    "categories": {"attributes"},
    "labels": {"attributes"},
    "comment": {"attributes", "title", "text"},
}
"""What each field of a patch says in our words."""


async def _change(
    recommender: Recommender,
    name: Literal["items", "users"],
    key: str,
    of: Callable[[Any], Pascal],
    patch: Pascal,
) -> RowAffected:
    """The row as Gorse would have sent it, with what the patch sets."""
    told = patch.model_dump(by_alias=True, exclude_none=True)
    said = patch.model_dump(exclude_none=True)
    labels = said.get("labels")
    own = (
        {"title", "text", "url", "image_url"} & labels.keys()
        if isinstance(labels, dict)
        else set[str]()
    )
    fields = own.union(*(SAYS[field] for field in said))
    return _affected(
        await recommender.change_foreign(
            "gorse", name, key, lambda known: of(known).model_dump(by_alias=True) | told, fields
        )
    )


def _affected(report: IngestReport) -> RowAffected:
    return RowAffected(
        row_affected=report.accepted + report.duplicates,
        rejected=report.rejected or None,
        warnings=report.warnings or None,
    )


async def _page(
    recommender: Recommender, cursor: str, n: int, kind: str | None = None
) -> Feedbacks:
    after, until = walk_of("feedback", cursor) or (0, await recommender.end_of_log())
    found, place = await recommender.list_last_said(after, n, until=until, kind=kind)
    following = "" if place is None else cursor_of("feedback", f"{place}-{until}")
    return Feedbacks(cursor=following, feedback=[GorseFeedback.of(event) for _, event in found])


async def _of_user(
    recommender: Recommender, user_id: str, kind: str | None = None
) -> list[GorseFeedback]:
    rows: list[GorseFeedback] = []
    until = await recommender.end_of_log()
    place: int | None = 0
    while place is not None and len(rows) < MOST:
        found, place = await recommender.list_last_said(
            place, MOST - len(rows), until=until, kind=kind, user_id=user_id
        )
        rows += [GorseFeedback.of(event) for _, event in found]
    return rows


def _labels(attributes: dict[str, Any]) -> Any:
    """A list where a list came."""
    return attributes["labels"] if set(attributes) == {"labels"} else attributes or None


def _told(moment: datetime) -> str:
    """RFC 3339 in UTC, as Go writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
