"""A person's state from their events: the recent window, a few interests, what they have seen.

`read` asks the log and the catalogue; the rest are functions of values.
"""

from __future__ import annotations

import asyncio
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain

import numpy as np

from service.catalog import Catalog, Vectors
from service.schema import Event, Interest, Item, Meaning, Recent, User, UserState
from service.store import Store
from service.store.database import moment
from service.store.events import log_key

INTERESTS = 4
"""At most so many tastes a person."""
SAME_TASTE = 0.5
"""Cosine from which an item belongs to an existing interest."""
LEARN_FROM = 100
"""So many of the latest likes, and of the latest dislikes, make the interests."""
RANK_DECAY = 0.97
"""An event counts this much less than the next later one, on top of its type's half-life."""
LIKE_DECAY = 0.9
"""A like counts this much less than the next later one where people of similar taste are looked
for."""
NEGLIGIBLE = 20
"""An opinion this many halvings weaker than the strongest like is not heard."""
LIKENESS = 0.75
"""From this share of letters in common on (`difflib`), an unknown event type may be a misspelt
known one."""
PUSH_AWAY = 0.3
"""How much of the dislikes near an interest is subtracted from it."""


def opinion(event: Event, meanings: Mapping[str, Meaning]) -> float:
    """What an event says of its item, in [-1, 1]. An unknown type says nothing."""
    meaning = meanings.get(event.type)
    return meaning.opinion(event.value) if meaning is not None else 0.0


def without_meaning(kind: str, known: Iterable[str]) -> str:
    """What to tell somebody who sends events of a type that no domain knows: that it says nothing,
    and the cure."""
    close = difflib.get_close_matches(kind, sorted(known), 1, LIKENESS)
    told = f"event type {kind!r} means nothing here, so it counts for nothing"
    cure = f"say what it means in the configuration (events.types.{kind})"
    return f"{told}; did you mean {close[0]!r}? If not, {cure}" if close else f"{told}; {cure}"


async def read(
    store: Store,
    catalog: Catalog,
    meanings: Mapping[str, Meaning],
    *,
    user_id: str | None,
    session_id: str | None,
    window: tuple[int, int],
    now: datetime,
    told: Sequence[Event] = (),
) -> UserState:
    """The state of a user, a visitor's session, or both together, as of every event accepted so
    far; `told`: later events that are in no log; `now`: when what was consumed may have come to be
    wanted again."""
    keys = [log_key(user_id, None)] if user_id is not None else []
    keys += [log_key(None, session_id)] if session_id is not None else []
    if not keys and not told:
        return UserState()
    hides = [name for name, meaning in meanings.items() if _hides(meaning)]
    people = await asyncio.gather(*(store.person(key, hides) for key in keys))
    events = [
        *sorted(chain(*(person.events for person in people)), key=lambda event: event.occurred_at),
        *told,
    ]
    liked = [
        event
        for event in events
        if opinion(event, meanings) > 0 or (event.type == "search" and event.text)
    ]
    shown = anchored(
        [event for n, event in enumerate(liked) if n == 0 or not _repeats(event, liked[n - 1])],
        *window,
    )
    disliked = [event for event in events if opinion(event, meanings) < 0]
    rated = sorted(
        [*liked[-LEARN_FROM:], *disliked[-LEARN_FROM:]], key=lambda event: event.occurred_at
    )
    items, vectors = await catalog.get(_items_of(shown)), await catalog.vectors(_items_of(rated))
    declared = people[0].declared if user_id is not None else None
    user = declared or User.model_construct(user_id="")
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
        source="events"
        if user_id is not None and people[0].events
        else "session"
        if events
        else "popularity",
    )


def _items_of(events: Sequence[Event]) -> set[str]:
    return {event.item_id for event in events if event.item_id is not None}


def anchored(events: Sequence[Event], low: int, high: int) -> Sequence[Event]:
    """The recent window: grows at its end to `high`, then starts again with the last `low`.

    Its first event stays the same for `high - low + 1` events, so an engine's prefix cache keeps
    what it knows.
    """
    if len(events) <= high:
        return events
    step = high - low + 1
    return events[((len(events) - high - 1) // step + 1) * step :]


def recent(
    events: Sequence[Event], items: Mapping[str, Item], meanings: Mapping[str, Meaning]
) -> tuple[Recent, ...]:
    """Likes whose item the catalogue knows, and searches, oldest first. Dislikes speak through the
    interests."""
    found = []
    for event in events:
        item = items.get(event.item_id) if event.item_id is not None else None
        if item is not None or event.type == "search":
            meaning = meanings[event.type]
            found.append(
                Recent.model_construct(
                    event=event,
                    item=item,
                    weight=opinion(event, meanings),
                    verb=meaning.verb or event.type.replace("_", " "),
                )
            )
    return tuple(found)


def interests(
    events: Sequence[Event], vectors: Mapping[str, Vectors], meanings: Mapping[str, Meaning]
) -> tuple[Interest, ...]:
    """Several tastes, not one mean: liked items are grouped around the strongest (leader clustering
    by cosine), recent and strong opinions count more, dislikes near a taste push it away. Heaviest
    first; weights sum to 1."""
    known = [event for event in events if event.item_id in vectors]
    if not known:
        return ()
    now = known[-1].occurred_at
    strengths: list[
        float
    ] = []  # base-2 logarithms: a taste of years ago must not vanish in a product of decays
    for age, event in enumerate(reversed(known)):
        days = (now - event.occurred_at).total_seconds() / 86_400
        decay = age * math.log2(RANK_DECAY) - days / meanings[event.type].half_life_days
        strengths.append(math.log2(abs(opinion(event, meanings))) + decay)
    signs = [opinion(event, meanings) > 0 for event in reversed(known)]
    top = max(
        (strength for strength, sign in zip(strengths, signs, strict=True) if sign), default=0.0
    )
    liked: list[tuple[float, Vectors]] = []
    disliked: list[tuple[float, Vectors]] = []
    for strength, sign, event in zip(strengths, signs, reversed(known), strict=True):
        if strength > top - NEGLIGIBLE:
            weight = 2.0 ** min(strength - top, NEGLIGIBLE)
            (liked if sign else disliked).append((weight, vectors[event.item_id or ""]))
    liked.sort(key=lambda pair: -pair[0])
    sums: list[Vectors] = []
    weights: list[float] = []
    for weight, vector in liked:
        cosines = [float(total @ vector) / math.sqrt(float(total @ total)) for total in sums]
        if not sums or (max(cosines) < SAME_TASTE and len(sums) < INTERESTS):
            sums.append(weight * vector)
            weights.append(weight)
        else:
            nearest = int(np.argmax(cosines))
            sums[nearest] = sums[nearest] + weight * vector
            weights[nearest] += weight
    tastes = []
    for total, weight in zip(sums, weights, strict=True):
        center = total / np.linalg.norm(total)
        for dislike, vector in disliked:
            center = (
                center
                - PUSH_AWAY
                * dislike
                / (weight + dislike)
                * max(0.0, float(center @ vector))
                * vector
            )
        tastes.append((weight / sum(weights), center / np.linalg.norm(center)))
    tastes.sort(key=lambda taste: -taste[0])
    return tuple(
        Interest.model_construct(vector=tuple(center.tolist()), weight=weight)
        for weight, center in tastes
    )


def likes(
    events: Sequence[Event], meanings: Mapping[str, Meaning]
) -> tuple[tuple[str, float], ...]:
    """(item id, weight) of the latest liked items, oldest first: of an item's several likes the
    greatest counts, and a dislike takes those before it back."""
    held: dict[str, float] = {}
    for event in events:
        if event.item_id is not None and (says := opinion(event, meanings)):
            before = held.pop(event.item_id, 0.0)
            if says > 0:
                held[event.item_id] = max(says, before)
    last = [*held.items()][-LEARN_FROM:]
    return tuple(
        (item_id, weight * LIKE_DECAY ** (len(last) - n))
        for n, (item_id, weight) in enumerate(last, 1)
    )


def avoided(events: Sequence[Event], meanings: Mapping[str, Meaning]) -> frozenset[str]:
    """What was disliked in words, without an item, and not liked since."""
    said = {
        event.text: opinion(event, meanings)
        for event in events
        if event.item_id is None and event.text
    }
    return frozenset(text for text, weight in said.items() if weight < 0)


def seen(
    latest: Sequence[tuple[str, str, int]], meanings: Mapping[str, Meaning], now: datetime
) -> frozenset[str]:
    """Items that are not recommended now: consumed ones, unless that was taken back since or their
    time to come again is here, and blocked ones whose block was not taken back since."""
    in_time = sorted(latest, key=lambda event: event[2])
    taken_back = {
        (item_id, meanings[kind].takes_back): at for item_id, kind, at in in_time
    }  # the last one stays
    consumed = {
        item_id
        for item_id, kind, at in latest
        if at > taken_back.get((item_id, kind), at - 1) and _consumed(meanings[kind], at, now)
    }
    blocked: dict[str, int] = {}
    unblocked: dict[str, int] = {}
    for item_id, kind, at in latest:
        for wanted, times in (
            (meanings[kind].blocks, blocked),
            (meanings[kind].unblocks, unblocked),
        ):
            if wanted:
                times[item_id] = max(at, times.get(item_id, at))
    return frozenset(
        consumed
        | {item_id for item_id, at in blocked.items() if at > unblocked.get(item_id, at - 1)}
    )


def _hides(meaning: Meaning) -> bool:
    """May an event of a type decide whether its item is recommended?"""
    return meaning.consumes or meaning.blocks or meaning.unblocks or meaning.takes_back is not None


def _consumed(meaning: Meaning, at: int, now: datetime) -> bool:
    """Does an event of a type keep its item from being recommended now? `at`: when it was, in
    microseconds since 1970."""
    if meaning.repeat_after is None:
        return meaning.consumes
    return meaning.consumes and now < moment(at) + timedelta(days=meaning.repeat_after)


def _repeats(event: Event, before: Event) -> bool:
    return event.item_id is not None and (event.item_id, event.type, event.value) == (
        before.item_id,
        before.type,
        before.value,
    )
