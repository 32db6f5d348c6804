"""A person's state from their events: the recent window, a few interests, what they have seen.

`read` asks the log and the catalogue; the rest are functions of values.
"""

import asyncio
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, compress

import numpy as np

from service.catalog import Catalog, Vectors
from service.schema import Event, Interest, Item, Meaning, Recent, User, UserState
from service.store import Store, StoredPerson
from service.store.database import moment
from service.store.events import log_key

INTERESTS = 4
"""The largest number of interests that a person has."""
SAME_TASTE = 0.5
"""Cosine from which an item belongs to an existing interest."""
LEARN_FROM = 100
"""How many of the latest likes, and of the latest dislikes, the interests are made from."""
RANK_DECAY = 0.97
"""Factor by which an event counts less than the next later one, on top of its type's half-life."""
NEGLIGIBLE = 20
"""An opinion that is this many halvings weaker than the strongest like is dropped."""
LIKENESS = 0.75
"""Least similarity (`difflib`, in [0, 1]) of an unknown event type to a known one at which a
warning suggests the known one."""
PUSH_AWAY = 0.3
"""How much of the dislikes near an interest is subtracted from it."""


@dataclass(frozen=True)
class Requester:
    """Whose state is read: a user, a visitor's session, or both together. `unlogged`: their events
    that are not in the log; these count as later than all events in the log."""

    user_id: str | None = None
    session_id: str | None = None
    unlogged: Sequence[Event] = ()

    def log_keys(self) -> list[str]:
        """Returns the keys of the requester's events in the log: the user's, then the session's."""
        keys = [log_key(self.user_id, None)] if self.user_id is not None else []
        return [*keys, log_key(None, self.session_id)] if self.session_id is not None else keys


def opinion(event: Event, meanings: Mapping[str, Meaning]) -> float:
    """Returns an event's opinion of its item, from -1 (dislike) to 1 (like); 0 if the event's type
    is not in `meanings`."""
    meaning = meanings.get(event.type)
    return meaning.opinion(event.value) if meaning is not None else 0.0


def without_meaning(kind: str, known: Iterable[str]) -> str:
    """Returns a warning about events of the type `kind`, which no domain knows: that they count for
    nothing, what to configure, and which of the `known` types may be meant."""
    close = difflib.get_close_matches(kind, sorted(known), 1, LIKENESS)
    effect = f"event type {kind!r} means nothing here, so it counts for nothing"
    cure = f"say what it means in the configuration (events.types.{kind})"
    return f"{effect}; did you mean {close[0]!r}? If not, {cure}" if close else f"{effect}; {cure}"


async def read(
    store: Store,
    catalog: Catalog,
    meanings: Mapping[str, Meaning],
    requester: Requester,
    *,
    window: tuple[int, int],
    now: datetime,
) -> UserState:
    """Returns a person's state, from all events accepted so far. `window`: the fewest and the most
    recent events (see `anchored`). `now`: decides which consumed items may be shown again."""
    keys = requester.log_keys()
    if not keys and not requester.unlogged:
        return UserState()
    hides = [kind for kind, meaning in meanings.items() if _hides(meaning)]
    people = await asyncio.gather(*(store.person(key, hides) for key in keys))
    events = [
        *sorted(chain(*(person.events for person in people)), key=lambda event: event.occurred_at),
        *requester.unlogged,
    ]
    liked = [
        event
        for event in events
        if opinion(event, meanings) > 0 or (event.type == "search" and event.text)
    ]
    disliked = [event for event in events if opinion(event, meanings) < 0]
    shown = anchored(_without_repeats(liked), *window)
    rated = sorted(
        [*liked[-LEARN_FROM:], *disliked[-LEARN_FROM:]], key=lambda event: event.occurred_at
    )
    items, vectors = await catalog.get(_items_of(shown)), await catalog.vectors(_items_of(rated))
    own = people[0] if requester.user_id is not None else StoredPerson(None, 0, [], [])
    user = own.declared or User.model_construct(user_id="")
    return UserState(
        version=sum(person.version for person in people),
        recent=recent(shown, items, meanings),
        interests=interests(rated, vectors, meanings),
        likes=likes(events, meanings),
        attributes=user.attributes,
        locale=user.locale,
        allow_hosted=user.allow_hosted,
        avoid=avoided(events, meanings),
        seen=seen([*chain(*(person.latest for person in people))], meanings, now),
        source="events" if own.events else "session" if events else "popularity",
    )


def _items_of(events: Sequence[Event]) -> set[str]:
    return {event.item_id for event in events if event.item_id is not None}


def _without_repeats(events: Sequence[Event]) -> list[Event]:
    """Returns the events without those that have the same item, type and value as the event
    before."""
    return [event for n, event in enumerate(events) if n == 0 or not _repeats(event, events[n - 1])]


def anchored(events: Sequence[Event], low: int, high: int) -> Sequence[Event]:
    """Returns the recent window: it grows at its end to `high` events, then starts again with the
    last `low`.

    Its first event stays the same for `high - low + 1` events, so an engine's prefix cache stays
    valid as long.
    """
    if len(events) <= high:
        return events
    step = high - low + 1
    return events[((len(events) - high - 1) // step + 1) * step :]


def recent(
    events: Sequence[Event], items: Mapping[str, Item], meanings: Mapping[str, Meaning]
) -> tuple[Recent, ...]:
    """Returns those of the events whose item is in `items`, and searches, in the order given, each
    with its item, weight and verb."""
    return tuple(
        Recent.model_construct(
            event=event,
            item=items.get(event.item_id or ""),
            weight=opinion(event, meanings),
            verb=meanings[event.type].plain_verb or event.type.replace("_", " "),
            verbs=meanings[event.type].verbs,
        )
        for event in events
        if event.item_id in items or event.type == "search"
    )


def interests(
    events: Sequence[Event], vectors: Mapping[str, Vectors], meanings: Mapping[str, Meaning]
) -> tuple[Interest, ...]:
    """Returns a person's interests, heaviest first; their weights sum to 1. Liked items are grouped
    around the strongest (leader clustering by cosine), recent and strong opinions count more, and
    dislikes near an interest push it away."""
    liked, disliked = _weighted(events, vectors, meanings)
    clusters = _clusters(liked)
    all_weights = sum(weight for _, weight in clusters)
    tastes = []
    for total, weight in clusters:
        center = total / np.linalg.norm(total)
        for dislike, vector in disliked:
            nearness = max(0.0, float(center @ vector))
            center = center - PUSH_AWAY * dislike / (weight + dislike) * nearness * vector
        tastes.append((weight / all_weights, center / np.linalg.norm(center)))
    return tuple(
        Interest.model_construct(vector=tuple(center.tolist()), weight=weight)
        for weight, center in sorted(tastes, key=lambda taste: -taste[0])
    )


def _weighted(
    events: Sequence[Event], vectors: Mapping[str, Vectors], meanings: Mapping[str, Meaning]
) -> tuple[list[tuple[float, Vectors]], list[tuple[float, Vectors]]]:
    """Returns (weight, vector) of the likes, the greatest weight first, and of the dislikes. The
    greatest like weighs 1. Negligible ones (see `NEGLIGIBLE`) are left out."""
    newest_first = [event for event in reversed(events) if event.item_id in vectors]
    signs = [opinion(event, meanings) > 0 for event in newest_first]
    # base-2 logarithms: a taste of years ago must not vanish in a product of decays
    strengths = []
    for age, event in enumerate(newest_first):
        days = (newest_first[0].occurred_at - event.occurred_at).total_seconds() / 86_400
        decay = age * math.log2(RANK_DECAY) - days / meanings[event.type].half_life_days
        strengths.append(math.log2(abs(opinion(event, meanings))) + decay)
    top = max(compress(strengths, signs), default=0.0)
    liked: list[tuple[float, Vectors]] = []
    disliked: list[tuple[float, Vectors]] = []
    for strength, is_like, event in zip(strengths, signs, newest_first, strict=True):
        if strength > top - NEGLIGIBLE:
            weight = 2.0 ** min(strength - top, NEGLIGIBLE)
            (liked if is_like else disliked).append((weight, vectors[event.item_id or ""]))
    return sorted(liked, key=lambda pair: -pair[0]), disliked


def _clusters(liked: Sequence[tuple[float, Vectors]]) -> list[tuple[Vectors, float]]:
    """(weighted sum of vectors, sum of weights) of each group of likes, at most `INTERESTS`."""
    clusters: list[tuple[Vectors, float]] = []
    for weight, vector in liked:
        cosines = [float(total @ vector) / math.sqrt(float(total @ total)) for total, _ in clusters]
        if not clusters or (max(cosines) < SAME_TASTE and len(clusters) < INTERESTS):
            clusters.append((weight * vector, weight))
        else:
            nearest = int(np.argmax(cosines))
            total, before = clusters[nearest]
            clusters[nearest] = total + weight * vector, before + weight
    return clusters


def likes(
    events: Sequence[Event], meanings: Mapping[str, Meaning]
) -> tuple[tuple[str, float], ...]:
    """Returns (item id, weight) of the latest liked items, oldest first, at most `LEARN_FROM`. If
    an item was liked several times, the greatest weight counts; a dislike cancels the likes before
    it."""
    held: dict[str, float] = {}
    for event in events:
        weight = opinion(event, meanings)
        if event.item_id is not None and weight:
            before = held.pop(event.item_id, 0.0)
            if weight > 0:
                held[event.item_id] = max(weight, before)
    return tuple(held.items())[-LEARN_FROM:]


def avoided(events: Sequence[Event], meanings: Mapping[str, Meaning]) -> frozenset[str]:
    """Returns the texts of dislikes that name no item, except texts that were liked later."""
    opinions = {
        event.text: opinion(event, meanings)
        for event in events
        if event.item_id is None and event.text
    }
    return frozenset(text for text, value in opinions.items() if value < 0)


def seen(
    latest: Sequence[tuple[str, str, int]], meanings: Mapping[str, Meaning], now: datetime
) -> frozenset[str]:
    """Returns the ids of items that are not recommended now: those consumed, unless that was taken
    back later or `repeat_after` days are over, and those blocked and not unblocked later. `latest`:
    (item id, event type, time of the last such event in microseconds)."""
    in_time = sorted(latest, key=lambda event: event[2])
    # of several entries with one key, the dictionary keeps the last
    taken_back = {(item_id, meanings[kind].takes_back): at for item_id, kind, at in in_time}
    consumed = {
        item_id
        for item_id, kind, at in latest
        if at > taken_back.get((item_id, kind), at - 1) and _consumed(meanings[kind], at, now)
    }
    blocked = {item_id: at for item_id, kind, at in in_time if meanings[kind].blocks}
    unblocked = {item_id: at for item_id, kind, at in in_time if meanings[kind].unblocks}
    return frozenset(
        consumed
        | {item_id for item_id, at in blocked.items() if at > unblocked.get(item_id, at - 1)}
    )


def _hides(meaning: Meaning) -> bool:
    """Returns whether events of a type may decide whether their item is recommended."""
    return meaning.consumes or meaning.blocks or meaning.unblocks or meaning.takes_back is not None


def _consumed(meaning: Meaning, at: int, now: datetime) -> bool:
    """Returns whether an event of a type keeps its item from being recommended now. `at`: the time
    of the event, in microseconds since 1970."""
    return meaning.consumes and (
        meaning.repeat_after is None or now < moment(at) + timedelta(days=meaning.repeat_after)
    )


def _repeats(event: Event, before: Event) -> bool:
    return event.item_id is not None and (event.item_id, event.type, event.value) == (
        before.item_id,
        before.type,
        before.value,
    )
