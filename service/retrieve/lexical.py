"""Source `lexical`."""

from collections.abc import Sequence
from functools import lru_cache

from service.catalog import asked_terms
from service.retrieve.fusion import Scores
from service.retrieve.lookup import Lookup
from service.schema import Item


async def lexical(lookup: Lookup) -> Scores:
    """Items that share words with the titles and attributes of the latest liked items."""
    terms = await latest_terms(lookup)
    return await lookup.catalog.search.by_terms(terms, lookup.query.depth, lookup.new)


async def latest_terms(lookup: Lookup) -> list[tuple[Sequence[str], float]]:
    """The terms of each of the latest liked items, and how much it is liked."""
    items = await lookup.catalog.get(item_id for item_id, _ in lookup.latest)
    return [
        (_terms(_title_and_facts(items[item_id])), weight)
        for item_id, weight in lookup.latest
        if item_id in items
    ]


def _title_and_facts(item: Item) -> str:
    return " ".join([item.title, *(str(value) for _, value in item.facts())])


@lru_cache(4_096)
def _terms(text: str) -> Sequence[str]:
    return tuple(asked_terms(text))
