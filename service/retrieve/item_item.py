"""Source `item_item`."""

from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup


async def item_item(lookup: Lookup) -> Scores:
    """Items that are liked together with the person's liked items: the learned weights of each
    pair, summed over all that the person likes."""
    return await lookup.neighbours("item_item", lookup.state.likes)
