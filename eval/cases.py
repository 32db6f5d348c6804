"""Cases: a person's history strictly before a second, what they liked from it on, and the log that
a system may learn from.

A data folder holds `items.jsonl`, `events.jsonl`, optionally `users.jsonl` and `cases.jsonl`. A
case folder is one too: its `events.jsonl` is the log without anything at or after a case for that
case's user, its `cases.jsonl` what is asked, its `protocol.json` how it was made. Cases stand in
random order, so that the first n of them are a sample.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BadRequest, reasons
from service.schema import Event, Id, Item, Moment, User

FETCHED = ("movielens-100k", "groceries", "books")
"""Data sets that `whyrank data` makes, in the service's data folder."""


class Case(BaseModel):
    """One question to a ranker, and its answers. `candidates`: rank exactly these; None: the
    service retrieves. `relevant`: the answers. `exclude`: items of the case's own second, neither
    history nor relevant. `at`: nothing of this user at or after it may be known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case_id: Id
    user_id: Id
    history: list[Id] = []
    candidates: list[Id] | None = Field(None, min_length=1)
    relevant: list[Id] = Field(min_length=1)
    exclude: list[Id] = []
    instruction: str | None = None
    at: Moment | None = None
    slices: dict[str, str] = {}


@dataclass(frozen=True)
class Data:
    """A data folder, read and checked. Events in order of person, second, item id, event id."""

    folder: Path
    items: list[Item]
    users: list[User]
    events: list[Event]
    cases: list[Case]

    @classmethod
    def read(cls, folder: Path) -> Data:
        """Reads and checks a data folder. Raises `BadRequest` naming file, line and reason."""
        if not (folder / "items.jsonl").exists():
            cure = f": 'whyrank data {folder.name}' fetches it" if folder.name in FETCHED else ""
            raise BadRequest(f"{folder} is no data folder: it holds no items.jsonl{cure}")
        events = _read(folder / "events.jsonl", Event)
        cases = _read(folder / "cases.jsonl", Case)
        for case_id, count in Counter(case.case_id for case in cases).items():
            if count > 1:
                raise BadRequest(
                    f"{folder / 'cases.jsonl'}: case_id {case_id!r} stands there twice"
                )
        return cls(
            folder,
            items=_read(folder / "items.jsonl", Item),
            users=_read(folder / "users.jsonl", User),
            events=sorted((event for event in events if event.user_id is not None), key=log_order),
            cases=cases,
        )

    def audit(self) -> None:
        """Checks a case folder for leaks. Raises `BadRequest` if it is no case folder, or if its
        log holds an event of a case's user that lies at or after the case, or that is on an answer
        outside the case's history (an item that was only seen before may be an answer)."""
        if not self.cases or not (self.folder / "protocol.json").exists():
            cure = "'whyrank eval cases' makes one (--protocol given for your own)"
            raise BadRequest(f"{self.folder} is no case folder: {cure}")
        cases: dict[str, list[Case]] = {}
        for case in self.cases:
            cases.setdefault(case.user_id, []).append(case)
        pairs = (
            (event, case) for event in self.events for case in cases.get(event.user_id or "", ())
        )
        for event, case in pairs:
            late = case.at is not None and second(event) >= case.at
            if late or (event.item_id in case.relevant and event.item_id not in case.history):
                raise BadRequest(
                    f"{self.folder / 'events.jsonl'} leaks: event {event.event_id} of user "
                    f"{event.user_id} lies at or after "
                    f"case {case.case_id}, or is on one of its answers"
                )

    @cached_property
    def sha(self) -> str:
        """The first 16 hex digits of the SHA-256 of the folder's files, computed at first use."""
        digest = sha256()
        for name in ("items.jsonl", "users.jsonl", "events.jsonl", "cases.jsonl"):
            file = self.folder / name
            digest.update(file.read_bytes() if file.exists() else b"")
        return digest.hexdigest()[:16]


Noun = TypeVar("Noun", bound=BaseModel)


def _read(file: Path, noun: type[Noun]) -> list[Noun]:
    """Reads a file of JSON lines as models of type `noun`; returns an empty list if there is no
    such file. Raises `BadRequest` naming file, line and reason."""
    nouns = []
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        nouns.append(noun.model_validate_json(line))
                    except ValidationError as error:
                        raise BadRequest(f"{file}, line {number}: {reasons(error)}") from error
    return nouns


def second(event: Event) -> datetime:
    """Returns when the event happened, without microseconds: cases are cut at whole seconds."""
    return event.occurred_at.replace(microsecond=0)


def log_order(event: Event) -> tuple[str, datetime, str, str]:
    """Returns the sort key of an event: user id, second, item id, event id."""
    return event.user_id or "", second(event), event.item_id or "", event.event_id
