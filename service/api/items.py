"""`/v1/items`: what can be shown."""

from fastapi import APIRouter

from service.api.needs import FeedDep, IngestDep, PathId, RecordsDep, feed_body
from service.api.pages import CursorQuery, LimitQuery, Page, cut, key_of
from service.schema import IngestReport, Item

router = APIRouter(prefix="/v1/items", tags=["feeds"])


@router.post("", summary="Insert or replace items, one or many", openapi_extra=feed_body(Item))
async def put_items(feed: FeedDep, ingest: IngestDep) -> IngestReport:
    """Accepted items are on disk before this answers; their vectors are computed in the background
    (`/readyz` shows how many wait)."""
    return feed.report(await ingest.items(feed.rows))


@router.get("", summary="All items, a page at a time")
async def list_items(
    records: RecordsDep, cursor: CursorQuery = None, limit: LimitQuery = 100
) -> Page[Item]:
    """By id. Items that were there at the first page come once, whatever arrives or changes
    meanwhile."""
    rows = await records.list_items(key_of("items", cursor), limit + 1)
    data, following = cut("items", rows, limit, lambda item: item.id)
    return Page(data=data, next_cursor=following)


@router.get("/{item_id}", summary="One item")
async def get_item(item_id: PathId, records: RecordsDep) -> Item:
    """As it was last sent, with defaults filled in."""
    return await records.item(item_id)


@router.delete("/{item_id}", status_code=204, summary="Take an item out of the catalogue")
async def delete_item(item_id: PathId, records: RecordsDep) -> None:
    """Events about it are kept, and count again if the item returns."""
    await records.delete_item(item_id)
