"""Source `sequence`."""

from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup

LAST = 5
"""How many of the latest likes are asked what comes after them."""
DECAY = 0.7
"""How much less a like counts than the next later one."""


async def sequence(lookup: Lookup) -> Scores:
    """Items that people liked soon after what the person liked last."""
    last = lookup.state.likes[-LAST:]
    decayed = [
        (item_id, weight * DECAY ** (len(last) - n)) for n, (item_id, weight) in enumerate(last, 1)
    ]
    return await lookup.neighbours("sequence", decayed)
