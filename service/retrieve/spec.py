"""Types: the retrieval query, and a source of candidates."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from service.catalog import EVERYTHING, Catalog, Scope, UserFactors
from service.schema import UserState
from service.store import Store


@dataclass(frozen=True)
class RetrievalQuery:
    """What to retrieve.

    `k`: how many candidates; `weights`: of the sources, by name; `given`: rank these ids instead of
    searching. `instruction`: the person's wish; `meant`: the same, redacted for the embedder;
    `embeds`: whether the embedder may see anything of this person. `context_items`: ids of the
    items that the person is looking at. `factors`: the person's collaborative vector. `avoid`:
    attribute values that no retrieved item may have. `popularity`, `vectors`: whether to add these
    to candidates.
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
        """How many items each source returns. More than `k`, as an item far down in several lists
        may beat the first of one."""
        return 4 * self.k


@dataclass(frozen=True)
class Lookup:
    """Input of a source: the query, the person's state, and the data to search."""

    store: Store
    catalog: Catalog
    state: UserState
    query: RetrievalQuery


@dataclass(frozen=True)
class SourceSpec:
    """A source of candidates. `find` returns ids of items within the query's scope, best first, at
    most `query.depth`."""

    name: str
    find: Callable[[Lookup], Awaitable[Sequence[str]]]
