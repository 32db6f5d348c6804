"""`/v1/users`: what people declare about themselves."""

from __future__ import annotations

from fastapi import APIRouter

from service.api.needs import FeedDep, JsonRoute, PathId, RecommenderDep, feed_body
from service.api.pages import CursorQuery, LimitQuery, Page, cut, key_of, place_of
from service.schema import Event, IngestReport, User, UserPatch

router = APIRouter(prefix="/v1/users", tags=["feeds"], route_class=JsonRoute)


@router.post("", summary="Insert or replace users, one or many", openapi_extra=feed_body(User))
async def put_users(feed: FeedDep, recommender: RecommenderDep) -> IngestReport:
    """What is not given falls back to its default; `PATCH` changes some fields only. What they did stays."""
    return feed.report(await recommender.ingest_users(feed.rows))


@router.get("", summary="All users, a page at a time")
async def list_users(recommender: RecommenderDep, cursor: CursorQuery = None, limit: LimitQuery = 100) -> Page[User]:
    """By id; also those who only acted and never declared anything, but no visitors, who have a session alone."""
    found = await recommender.list_users(key_of("users", cursor), limit + 1)
    data, following = cut("users", found, limit, lambda user: user.user_id)
    return Page(data=data, next_cursor=following)


@router.get("/{user_id}/events", summary="What a user did, a page at a time")
async def list_events(
    user_id: PathId, recommender: RecommenderDep, cursor: CursorQuery = None, limit: LimitQuery = 100
) -> Page[Event]:
    """In the order in which they arrived."""
    found = await recommender.list_events(user_id, place_of("events", cursor), limit + 1)
    data, following = cut("events", found, limit, lambda row: row[0])
    return Page(data=[event for _, event in data], next_cursor=following)


@router.get("/{user_id}", summary="One user")
async def get_user(user_id: PathId, recommender: RecommenderDep) -> User:
    """What they declared; defaults, of one who only acted."""
    return await recommender.user(user_id)


@router.patch("/{user_id}", summary="Change some fields of a user")
async def patch_user(user_id: PathId, change: UserPatch, recommender: RecommenderDep) -> User:
    """Answers with all of them, as the next ranking will see it."""
    return await recommender.patch_user(user_id, change)
