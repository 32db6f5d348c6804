"""Source `sequence`."""

from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup

LAST = 5
"""For how many of the latest likes the source looks up what people liked after them."""
DECAY = 0.7
"""Each like weighs this share of the next later one."""


async def sequence(lookup: Lookup) -> Scores:
    """Items that people liked soon after what the person liked last."""
    last = lookup.state.likes[-LAST:]
    decayed = [
        (item_id, weight * DECAY ** (len(last) - n)) for n, (item_id, weight) in enumerate(last, 1)
    ]
    return await lookup.neighbours("sequence", decayed)
