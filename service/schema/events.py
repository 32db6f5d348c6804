"""What people did, and what that says of their taste."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from service.schema.values import Id, Label, Moment, Text, Value


class Event(Value):
    """One thing a person did, or a visitor known by `session_id` alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "127",
                    "item_id": "181",
                    "type": "rating",
                    "value": 5,
                    "occurred_at": "2026-01-31T12:00:00Z",
                }
            ]
        }
    )

    event_id: Id = ""
    """The caller's own: sent again, it changes nothing. Absent: made of who, type, item, time and
    value."""
    user_id: Id | None = None
    """Who did it; absent: a visitor, known by `session_id`."""
    item_id: Id | None = None
    """With which item, which the catalogue may come to know later."""
    type: Label
    """What was done, as `play`, `like` or `rating`; what a type says is configuration."""
    value: FiniteFloat | None = None
    """How much, as the stars of a rating."""
    text: Annotated[Text, StringConstraints(max_length=4_000)] | None = None
    """In words, as what was searched for."""
    occurred_at: Moment = Field(default_factory=lambda: datetime.now(UTC))
    """When: with a zone, or in epoch milliseconds; absent: now."""
    session_id: Id | None = None
    """In which visit."""
    ranking_id: Id | None = None
    """The ranking that showed the item."""
    position: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """The item's place in it, from 0."""

    @model_validator(mode="before")
    @classmethod
    def _drop_null_id(cls, data: Any) -> Any:
        """Treats a null `event_id` as absent; an id of the wrong type is still refused."""
        if isinstance(data, dict) and "event_id" in data and data["event_id"] is None:
            return {key: value for key, value in data.items() if key != "event_id"}
        return data

    @model_validator(mode="after")
    def _set_id(self) -> Event:
        """Gives an event without an id one made of its content, so that it counts once however
        often it is sent."""
        if self.user_id is None and self.session_id is None:
            raise ValueError("an event needs a user_id, or a session_id for a visitor without one")
        if not self.event_id:
            who = self.user_id if self.user_id is not None else f"\x1f{self.session_id}"
            parts = (who, self.type, self.item_id, self.occurred_at.isoformat(), self.value)
            digest = hashlib.sha256("\x1e".join(map(repr, parts)).encode()).hexdigest()
            object.__setattr__(self, "event_id", digest[:32])
        return self


class Meaning(Value):
    """What an event of one type says of its item.

    `weight` in [-1, 1]: how much the item is liked (negative: disliked). `half_life_days`: after so
    many days the weight counts half. `consumes`: the item is not recommended again; with
    `repeat_after`, not for so many days, as for goods that are bought again. `blocks`, `unblocks`:
    the item is never recommended, or may be again. `takes_back`: the event type whose earlier
    events of this item no longer consume it. `verb`: how a prompt says it.

    If the event carries a value, as stars, the value decides the sign: `weight` from
    `positive_from` upwards, `-weight` down from `negative_to`, 0 between them. `scale`: the lowest
    and the highest value. With a scale, `positive_from` defaults to three quarters of it and
    `negative_to` to a quarter (of 1 to 5 stars: 4 and 2).
    """

    weight: float = Field(0, ge=-1, le=1)
    half_life_days: float = Field(90, gt=0)
    consumes: bool = False
    repeat_after: float | None = Field(None, gt=0, le=36_500)
    blocks: bool = False
    unblocks: bool = False
    takes_back: Label | None = None
    scale: tuple[float, float] | None = None
    positive_from: float | None = None
    negative_to: float | None = None
    verb: str = ""

    @model_validator(mode="after")
    def _check_scale(self) -> Meaning:
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError("scale: the lowest value, then the highest, as [1, 5]")
        return self

    @property
    def liked_from(self) -> float | None:
        """The value from which on an event says that its item is liked; None: whatever its
        value."""
        return self._threshold(self.positive_from, 0.75)

    @property
    def disliked_to(self) -> float | None:
        """The value up to which an event says that its item is disliked; None: at no value."""
        return self._threshold(self.negative_to, 0.25)

    def _threshold(self, configured: float | None, share: float) -> float | None:
        """The configured threshold, else the value at this share of the scale; None if there is no
        scale either."""
        if configured is not None or self.scale is None:
            return configured
        low, high = self.scale
        return low + share * (high - low)

    def opinion(self, value: float | None) -> float:
        """What an event of this type and value says of its item, in [-1, 1]."""
        if value is None or self.liked_from is None or value >= self.liked_from:
            return self.weight
        return -self.weight if self.disliked_to is not None and value <= self.disliked_to else 0.0

    def over(self, base: Meaning) -> Meaning:
        """The fields that were set on this meaning; the rest from `base`."""
        return base.model_copy(update=self.model_dump(exclude_unset=True))
