"""Batches of items, users and events, and what became of them."""

from typing import Literal

from service.schema.values import Value

Feed = Literal["items", "users", "events"]
Shape = Literal["gorse", "metarank", "personalize"]
"""The systems whose row formats are understood."""


class Rejection(Value):
    """Why an element of a batch was not taken."""

    index: int
    """Its place in the batch, from 0."""
    code: str
    """A code for programs, as `invalid`."""
    message: str
    """The field, and what is wrong with it."""


class IngestReport(Value):
    """What became of a batch."""

    accepted: int = 0
    """How many were taken."""
    duplicates: int = 0
    """How many were known already and changed nothing."""
    rejected: list[Rejection] = []
    """Those that were not taken, and why."""
    warnings: list[str] = []
    """What was taken, but perhaps not as it was meant, in words."""


class ForeignReport(IngestReport):
    """What became of a batch in another system's row format. One foreign row may become several of
    ours: `accepted` and `duplicates` count ours, indexes of `rejected` count foreign rows.
    `skipped`: how many foreign rows hold nothing for the feed."""

    skipped: int = 0
