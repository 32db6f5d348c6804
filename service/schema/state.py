"""What a ranking knows of a person, and what it chooses among."""

from typing import Literal

from service.schema.events import Event
from service.schema.items import Item
from service.schema.values import Attributes, Value

ProfileSource = Literal["events", "session", "attributes", "instruction", "popularity"]


class Recent(Value):
    """An event of the recent window."""

    event: Event
    """What was done."""
    item: Item | None
    """The event's item; null for a search."""
    weight: float
    """What the event says, in [-1, 1]; positive: liked."""
    verb: str
    """How a prompt says it."""


class Interest(Value):
    """One taste of a person: a unit vector in the embedding space of the items. The weights of a
    person's interests sum to 1."""

    vector: tuple[float, ...]
    weight: float


class UserState(Value):
    """All that a ranking may know of a person.

    `version` changes with every accepted event, so caches use it as a key. `recent`: the window of
    latest events. `likes`: (item id, weight in (0, 1]) of the latest liked items, oldest first.
    `seen`: ids of items not to be recommended. `avoid`: what they said they don't like, in their
    own words. `source`: what kind of knowledge this is made of.
    """

    version: int = 0
    recent: tuple[Recent, ...] = ()
    interests: tuple[Interest, ...] = ()
    likes: tuple[tuple[str, float], ...] = ()
    attributes: Attributes = {}
    locale: str | None = None
    allow_hosted: bool = True
    seen: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    source: ProfileSource = "popularity"


class Candidate(Value):
    """An item that may be ranked.

    `prior`: fused score of the sources, higher is better. `sources`: 1-based rank in each source
    that named the item. `popularity`: log2 of its decayed votes, comparable within one list;
    `vector`: its unit vector; both are set only if fusion weighs them. `blank`: only the item's id
    is known, so it stays last, is shown to no model and gets no reason.
    """

    item: Item
    prior: float
    sources: dict[str, int] = {}
    popularity: float = 0
    vector: tuple[float, ...] | None = None
    blank: bool = False
