"""The service's own log as data to make cases of."""

from pathlib import Path

from eval.cases import Data, log_order
from service.build import Service
from service.errors import BadRequest
from service.schema import Event, Item, User

PAGE = 1_000


async def own_data(service: Service, folder: Path) -> Data:
    """All items, users, and what users did. Visitors without a user id are left out. `folder`: a
    name for the data; nothing is written. Raises `BadRequest` for an empty log."""
    items, users, events = await _items(service), await _users(service), list[Event]()
    for user in users:
        after = 0
        while page := await service.records.list_events(user.user_id, after, PAGE):
            events += [event for _, event in page]
            after = page[-1][0]
    if not events:
        raise BadRequest("the service's own log holds no event of a user: nothing to learn from")
    return Data(folder, items, users, sorted(events, key=log_order), [])


async def _items(service: Service) -> list[Item]:
    items: list[Item] = []
    while page := await service.records.list_items(items[-1].id if items else "", PAGE):
        items += page
    return items


async def _users(service: Service) -> list[User]:
    users: list[User] = []
    while page := await service.records.list_users(users[-1].user_id if users else "", PAGE):
        users += page
    return users
