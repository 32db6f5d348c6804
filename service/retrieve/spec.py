"""What to look for, and what a source of candidates is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from service.catalog import EVERYTHING, Catalog, Scope, UserFactors
from service.schema import UserState
from service.store import Store


@dataclass(frozen=True)
class RetrievalQuery:
    """`k`: how many candidates; `weights`: of the sources, by name; `given`: rank these ids instead
    of looking.

    `instruction`: what is wished, `meant`: the same as the embedder may see it; `embeds`: may it
    see anything for this person? `context_items`: ids of what is looked at now. `factors`: the
    person's place among the items' factors. `avoid`: values of attributes that nothing found may
    have. `popularity`, `vectors`: shall candidates carry them?
    """

    k: int
    weights: Mapping[str, float]
    scope: Scope = EVERYTHING
    given: Sequence[str] | None = None
    instruction: str | None = None
    meant: str | None = None
    embeds: bool = True
    context_items: Sequence[str] = ()
    factors: UserFactors | None = None
    avoid: frozenset[str] = frozenset()
    popularity: bool = False
    vectors: bool = False

    @property
    def depth(self) -> int:
        """How many each source names: more than are kept, as an item that several of them name far
        down may beat one's favourite."""
        return 4 * self.k


@dataclass(frozen=True)
class Lookup:
    """Where and for whom a source looks."""

    store: Store
    catalog: Catalog
    state: UserState
    query: RetrievalQuery


@dataclass(frozen=True)
class SourceSpec:
    """A source of candidates. `find`: ids of admissible items, best first, at most
    `query.depth`."""

    name: str
    find: Callable[[Lookup], Awaitable[Sequence[str]]]
