"""Gorse's API: a client of Gorse only needs our URL.

Each element of a body is checked by itself. `RowAffected` counts the accepted elements. Two keys
are ours, not Gorse's: `Rejected` says why elements were not accepted, `Warnings` which accepted
ones may not mean what the client intended. The status is 422 if no element was accepted.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query
from pydantic import StringConstraints

from service.api.edge import REFUSALS
from service.api.gorse_rows import (
    Feedbacks,
    GorseFeedback,
    GorseItem,
    GorseUser,
    ItemPatch,
    Items,
    LabelsPatch,
    Pascal,
    RowAffected,
    Score,
    UserPage,
    time_text,
)
from service.api.needs import (
    CallDep,
    FeedDep,
    IngestDep,
    JsonRoute,
    PathId,
    RecommenderDep,
    RecordsDep,
    Segment,
    cursor_of,
    feed_body,
    page_of,
    walk_of,
)
from service.errors import BadRequest
from service.schema import Feed, Filter, IngestReport, RecommendRequest

router = APIRouter(prefix="/api", tags=["Gorse"], route_class=JsonRoute, responses=REFUSALS)

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


# ── feedback ──────────────────────────────────────────────────────────────────────────────────────


@router.post(
    "/feedback",
    summary="Take feedback",
    response_model_exclude_none=True,
    openapi_extra=feed_body(GorseFeedback),
)
async def insert_feedback(feed: FeedDep, ingest: IngestDep) -> RowAffected:
    """Sending the same again changes nothing. Gorse ignores a second row of the same type, user and
    item; our log keeps what was done again at another time, and what was done last counts."""
    return await _take(ingest, "events", feed)


@router.put(
    "/feedback",
    summary="Overwrite feedback",
    response_model_exclude_none=True,
    openapi_extra=feed_body(GorseFeedback),
)
async def overwrite_feedback(feed: FeedDep, ingest: IngestDep) -> RowAffected:
    """The log is only appended to, so the old row stays in it. Of two rows of the same type, user
    and item only the later one (by `Timestamp`; without one it is now) counts and is listed."""
    now = time_text(datetime.now(UTC))
    feed.rows = [{"Timestamp": now, **row} if isinstance(row, dict) else row for row in feed.rows]
    return await _take(ingest, "events", feed)


@router.delete(
    "/feedback/{user_id}/{item_id}", summary="Take feedback back", response_model_exclude_none=True
)
async def delete_feedback(user_id: PathId, item_id: PathId, records: RecordsDep) -> RowAffected:
    """All feedback of the user on the item is deleted, and the next ranking knows nothing of it."""
    return RowAffected(row_affected=await records.unsay(user_id, item_id))


@router.delete(
    "/feedback/{feedback_type}/{user_id}/{item_id}",
    summary="Take feedback of one type back",
    response_model_exclude_none=True,
)
async def delete_typed(
    feedback_type: TypePath, user_id: PathId, item_id: PathId, records: RecordsDep
) -> RowAffected:
    """The user's feedback of other types on the item stays."""
    return RowAffected(row_affected=await records.unsay(user_id, item_id, feedback_type))


@router.get("/feedback", summary="All feedback, a page at a time", response_model_exclude_none=True)
async def list_feedback(records: RecordsDep, cursor: CursorQuery = "", n: NQuery = 10) -> Feedbacks:
    """In the order in which it arrived; of each type, user and item the last. Visitors without an
    id are left out. A page may be short; the last is the one with an empty `Cursor`."""
    return await _page(records, cursor, n)


@router.get(
    "/feedback/{feedback_type}", summary="Feedback of one type", response_model_exclude_none=True
)
async def list_typed(
    feedback_type: TypePath, records: RecordsDep, cursor: CursorQuery = "", n: NQuery = 10
) -> Feedbacks:
    """In the order in which it arrived; otherwise as all feedback."""
    return await _page(records, cursor, n, feedback_type)


@router.get(
    "/user/{user_id}/feedback", summary="A user's feedback", response_model_exclude_none=True
)
async def list_of_user(user_id: PathId, records: RecordsDep) -> list[GorseFeedback]:
    """The first 10,000 rows."""
    return await _of_user(records, user_id)


@router.get(
    "/user/{user_id}/feedback/{feedback_type}",
    summary="A user's feedback",
    response_model_exclude_none=True,
)
async def list_typed_of_user(
    user_id: PathId, feedback_type: TypePath, records: RecordsDep
) -> list[GorseFeedback]:
    """The first 10,000 rows of one type."""
    return await _of_user(records, user_id, feedback_type)


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
async def insert_items(feed: FeedDep, ingest: IngestDep) -> RowAffected:
    """Durable before this answers; vectors follow in the background."""
    return await _take(ingest, "items", feed)


@router.get("/items", summary="All items, a page at a time")
async def list_items(
    records: RecordsDep,
    cursor: CursorQuery = "",
    n: NQuery = 10,
    q: Annotated[str, Query(description="Not done here.", examples=[""])] = "",
) -> Items:
    """By id. Items that exist when the first page is asked for come once, whatever arrives
    meanwhile."""
    if q:
        raise BadRequest(
            "q: no search here; ask /v1/recommendations with it as instruction", param="q"
        )
    page = await page_of("items", cursor, n, records.list_items, lambda item: item.id)
    return Items(cursor=page.next_cursor or "", items=[GorseItem.of(item) for item in page.data])


@router.get("/item/{item_id}", summary="One item")
async def get_item(item_id: PathId, records: RecordsDep) -> GorseItem:
    """In Gorse's format, even if another API sent it."""
    return GorseItem.of(await records.item(item_id))


@router.patch("/item/{item_id}", summary="Change an item", response_model_exclude_none=True)
async def modify_item(item_id: PathId, patch: ItemPatch, ingest: IngestDep) -> RowAffected:
    """Only what is given changes. Durable before this answers."""
    return await _change(ingest, "items", item_id, GorseItem.of, patch)


@router.delete(
    "/item/{item_id}", summary="Take an item out of the catalogue", response_model_exclude_none=True
)
async def delete_item(item_id: PathId, records: RecordsDep) -> RowAffected:
    """Deletes an item. Unlike in Gorse, the feedback on it stays, and is used again if the item
    returns."""
    await records.delete_item(item_id)
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
async def insert_users(feed: FeedDep, ingest: IngestDep) -> RowAffected:
    """What Gorse has no field for (`locale`, `allow_hosted`, `profile`) stays as it was."""
    return await _take(ingest, "users", feed)


@router.get("/users", summary="All users, a page at a time")
async def list_users(records: RecordsDep, cursor: CursorQuery = "", n: NQuery = 10) -> UserPage:
    """A page of users by id, including those who are only known from their events."""
    page = await page_of("users", cursor, n, records.list_users, lambda user: user.user_id)
    return UserPage(cursor=page.next_cursor or "", users=[GorseUser.of(user) for user in page.data])


@router.get("/user/{user_id}", summary="One user")
async def get_user(user_id: PathId, records: RecordsDep) -> GorseUser:
    """In Gorse's format; without labels if there are only events of the user."""
    return GorseUser.of(await records.user(user_id))


@router.patch("/user/{user_id}", summary="Change a user", response_model_exclude_none=True)
async def modify_user(user_id: PathId, patch: LabelsPatch, ingest: IngestDep) -> RowAffected:
    """Only what is given changes, and the next ranking knows it."""
    return await _change(ingest, "users", user_id, GorseUser.of, patch)


@router.delete("/user/{user_id}", summary="Forget a user", response_model_exclude_none=True)
async def delete_user(user_id: PathId, records: RecordsDep) -> RowAffected:
    """With their feedback and what they were shown."""
    await records.forget(user_id)
    return RowAffected(row_affected=1)


# ── recommendations ───────────────────────────────────────────────────────────────────────────────


@router.get("/recommend/{user_id}/", include_in_schema=False)
@router.get("/recommend/{user_id}", summary="Ids of what to show next, best first")
async def recommend(
    user_id: PathId,
    recommender: RecommenderDep,
    call: CallDep,
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
    request = RecommendRequest(
        user_id=user_id,
        top_n=n + offset,
        filters={"categories": Filter(any=[*category])} if category else {},
        explain="none",
    )
    ranked = (await recommender.recommend(request, call)).items[offset:]
    if version == "2":
        return [Score(id=item.item_id, score=item.score) for item in ranked]
    return [item.item_id for item in ranked]


@router.get("/recommend/{user_id}/{category}", summary="Ids of what to show next within a category")
async def recommend_in(
    user_id: PathId,
    category: Annotated[Category, Segment, Path(description="One of the items' `Categories`.")],
    recommender: RecommenderDep,
    call: CallDep,
    n: NQuery = 10,
    offset: OffsetQuery = 0,
    version: Version = "1",
) -> list[str] | list[Score]:
    """As without a category, but only items that have it in `Categories`."""
    return await recommend(user_id, recommender, call, n, offset, [category], version=version)


# ── shared by the routes ──────────────────────────────────────────────────────────────────────────


async def _take(ingest: IngestDep, name: Feed, feed: FeedDep) -> RowAffected:
    return _affected(feed.report(await ingest.foreign_rows("gorse", feed.rows, name)))


PATCHED_FIELDS = {
    "is_hidden": {"available"},
    "timestamp": {"published_at"},
    "categories": {"attributes"},
    "labels": {"attributes"},
    "comment": {"attributes", "title", "text"},
}
"""By field of a patch, the fields of ours that it sets."""


async def _change(
    ingest: IngestDep,
    name: Literal["items", "users"],
    key: str,
    of: Callable[[Any], Pascal],
    patch: Pascal,
) -> RowAffected:
    """Changes the item or user with the id `key`, which `of` turns into a row of Gorse's."""
    changes = patch.model_dump(by_alias=True, exclude_none=True)
    patched = patch.model_dump(exclude_none=True)
    fields = set[str]().union(*(PATCHED_FIELDS[field] for field in patched))
    if isinstance(labels := patched.get("labels"), dict):
        fields |= {"title", "text", "url", "image_url"} & labels.keys()
    return _affected(
        await ingest.change_foreign(
            "gorse", name, key, lambda known: of(known).model_dump(by_alias=True) | changes, fields
        )
    )


def _affected(report: IngestReport) -> RowAffected:
    return RowAffected(
        row_affected=report.accepted + report.duplicates,
        rejected=report.rejected or None,
        warnings=report.warnings or None,
    )


async def _page(records: RecordsDep, cursor: str, n: int, kind: str | None = None) -> Feedbacks:
    after, until = walk_of("feedback", cursor) or (0, await records.end_of_log())
    events, place = await records.list_last_said(after, n, until=until, kind=kind)
    return Feedbacks(
        cursor="" if place is None else cursor_of("feedback", f"{place}-{until}"),
        feedback=[GorseFeedback.of(event) for _, event in events],
    )


async def _of_user(
    records: RecordsDep, user_id: str, kind: str | None = None
) -> list[GorseFeedback]:
    rows: list[GorseFeedback] = []
    until = await records.end_of_log()
    place: int | None = 0
    while place is not None and len(rows) < MOST:
        events, place = await records.list_last_said(
            place, MOST - len(rows), until=until, kind=kind, user_id=user_id
        )
        rows += [GorseFeedback.of(event) for _, event in events]
    return rows
