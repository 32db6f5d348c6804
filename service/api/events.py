"""`POST /v1/events`: what people do, as they do it."""

from fastapi import APIRouter

from service.api.needs import FeedDep, IngestDep, feed_body
from service.schema import Event, IngestReport

router = APIRouter(prefix="/v1", tags=["feeds"])


@router.post("/events", summary="Take events, one or many", openapi_extra=feed_body(Event))
async def events(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """Accepted events are on disk before this answers, and the very next ranking knows them.
    Sending an event again is harmless."""
    return feed.report(await ingest.events(feed.rows))
