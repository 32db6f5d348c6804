"""`/v1/users`: what people declare about themselves."""

from __future__ import annotations

from fastapi import APIRouter

from service.api.needs import FeedDep, JsonRoute, PathId, RecommenderDep, feed_body
from service.schema import IngestReport, User, UserPatch

router = APIRouter(prefix="/v1/users", tags=["feeds"], route_class=JsonRoute)


@router.post("", summary="Insert or replace users, one or many", openapi_extra=feed_body(User))
async def put_users(feed: FeedDep, recommender: RecommenderDep) -> IngestReport:
    return feed.report(await recommender.ingest_users(feed.rows))


@router.get("/{user_id}", summary="One user")
async def get_user(user_id: PathId, recommender: RecommenderDep) -> User:
    return await recommender.user(user_id)


@router.patch("/{user_id}", summary="Change some fields of a user")
async def patch_user(user_id: PathId, change: UserPatch, recommender: RecommenderDep) -> User:
    return await recommender.patch_user(user_id, change)
