"""Cases: a person's history strictly before a second, what they liked from it on, and the log that
a system may learn from.

A data folder holds `items.jsonl`, `events.jsonl`, optionally `users.jsonl` and `cases.jsonl`. A
case folder is one too: its `events.jsonl` is the log without anything at or after a case for that
case's user, its `cases.jsonl` what is asked, its `protocol.json` how it was made. Cases stand in
random order, so that the first n of them are a sample.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BadRequest, reasons
from service.schema import Event, Id, Item, Meaning, Moment, User

LIKED = 0.5
"""An event says "liked" from this opinion on, unless told otherwise: a rating ≥ 4, a purchase, a
like, a play."""
FEWEST = 5
"""People with fewer liked items than this are part of the log only."""
SHARE = 0.2
CUT = 0.9
COLD = 3
FETCHED = ("movielens-100k", "groceries", "books")
"""Data sets that `whyrank data` makes, in the service's data folder."""
HEAVY = 100
HEAD = 0.5


class Case(BaseModel):
    """`candidates`: rank exactly these; None: the service retrieves. `exclude`: items tied with the
    case's second, neither history nor relevant. `at`: nothing of this user at or after it may be
    known."""

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
        """Raises `BadRequest` naming file, line and reason."""
        if not (folder / "items.jsonl").exists():
            cure = f": 'whyrank data {folder.name}' fetches it" if folder.name in FETCHED else ""
            raise BadRequest(f"{folder} is no data folder: it holds no items.jsonl{cure}")
        events = [
            event for event in _rows(folder / "events.jsonl", Event) if event.user_id is not None
        ]
        cases = _rows(folder / "cases.jsonl", Case)
        if twice := [
            case for case, count in Counter(case.case_id for case in cases).items() if count > 1
        ]:
            raise BadRequest(f"{folder / 'cases.jsonl'}: case_id {twice[0]!r} stands there twice")
        return cls(
            folder,
            items=_rows(folder / "items.jsonl", Item),
            users=_rows(folder / "users.jsonl", User),
            events=sorted(events, key=_place),
            cases=cases,
        )

    def audit(self) -> None:
        """Raises `BadRequest` for what is no case folder, and if the log knows anything of a case's
        user at or after the case, or an answer that is not also part of the history (an item seen,
        but not liked or consumed before, may be one)."""
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
        """Of the folder's files, as bytes, as they are at the first look."""
        digest = sha256()
        for name in ("items.jsonl", "users.jsonl", "events.jsonl", "cases.jsonl"):
            file = self.folder / name
            digest.update(file.read_bytes() if file.exists() else b"")
        return digest.hexdigest()[:16]


Row = TypeVar("Row", bound=BaseModel)


def _rows(file: Path, noun: type[Row]) -> list[Row]:
    """None if there is no such file."""
    found = []
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        found.append(noun.model_validate_json(line))
                    except ValidationError as error:
                        raise BadRequest(f"{file}, line {number}: {reasons(error)}") from error
    return found


def second(event: Event) -> datetime:
    return event.occurred_at.replace(microsecond=0)


def _place(event: Event) -> tuple[str, datetime, str, str]:
    return event.user_id or "", second(event), event.item_id or "", event.event_id


# ── protocols ─────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Split:
    """What a protocol makes of the data. `log`: events that may be known. `notes`: what a reader of
    the results must know."""

    cases: list[Case] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)
    ties: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """`negatives`: of `sampled` and `popularity-matched`. `share`: of `temporal` and `random`.
    `cut`: of `global-time`, by events. `least`: the opinion from which an event says "liked"."""

    meanings: Mapping[str, Meaning]
    negatives: int = 19
    share: float = SHARE
    cut: float = CUT
    seed: int = 0
    least: float = LIKED

    def likes(self, event: Event) -> bool:
        meaning = self.meanings.get(event.type)
        return (
            event.item_id is not None
            and meaning is not None
            and meaning.opinion(event.value) >= self.least
        )

    def settles(self, event: Event) -> bool:
        """After it the item is no answer any more: liked or consumed, not only seen."""
        meaning = self.meanings.get(event.type)
        return self.likes(event) or (meaning is not None and (meaning.consumes or meaning.blocks))


def temporal(data: Data, options: Options) -> Split:
    """Each person's liked items in time order; the last share of them is asked for."""
    return _per_person(data, options, lambda likes: max(1, round(options.share * len(likes))))


def leave_last_out(data: Data, options: Options) -> Split:
    """Each person's last liked item is asked for."""
    return _per_person(data, options, lambda likes: 1)


def shuffled(data: Data, options: Options) -> Split:
    """A random share of each person's liked items is asked for: for data without times. Its events
    are given some, in random order, second by second up to the person's last one, so that the log
    can be read as any other."""
    dice = random.Random(options.seed)
    events = []
    for theirs in _by_person(data.events).values():
        last = max(second(event) for event in theirs)
        order = dice.sample(theirs, len(theirs))
        events += [
            event.model_copy(update={"occurred_at": last - timedelta(seconds=n)})
            for n, event in enumerate(order)
        ]
    split = temporal(replace(data, events=sorted(events, key=_place)), options)
    split.notes.append("random order: what is asked for is not what came later")
    return split


def _per_person(data: Data, options: Options, asked: Callable[[Sequence[Event]], int]) -> Split:
    split = Split()
    for user, events in _by_person(data.events).items():
        likes = [event for event in events if options.likes(event)]
        if len(likes) < FEWEST:
            split.log += events
        else:
            _ask(split, options, user, events, likes[-asked(likes) :])
    return split


def _ask(
    split: Split, options: Options, user: str, events: Sequence[Event], wanted: Sequence[Event]
) -> None:
    """A case from a person's events; without a history, or a new item to find, there is none and
    nothing is known."""
    at = second(wanted[0])
    before = [event for event in events if second(event) < at]
    history = list(dict.fromkeys(event.item_id for event in before if event.item_id is not None))
    settled = {event.item_id for event in before if options.settles(event)}
    relevant = list(
        dict.fromkeys(
            event.item_id for event in wanted if event.item_id not in settled and event.item_id
        )
    )
    split.log += before
    if history and relevant:
        tied = [
            event.item_id
            for event in events
            if second(event) == at and event.item_id not in {*relevant, *history, None}
        ]
        exclude = list(dict.fromkeys(one for one in tied if one is not None))
        split.ties += bool(exclude)
        split.cases.append(
            Case(
                case_id=user,
                user_id=user,
                history=history,
                relevant=relevant,
                exclude=exclude,
                at=at,
            )
        )


def global_time(data: Data, options: Options) -> Split:
    """One cut for everybody: what was before it is known, what was liked from it on is asked
    for."""
    times = sorted(second(event) for event in data.events)
    if not times:
        return Split()
    cut = times[int(options.cut * (len(times) - 1))]
    split, people = Split(notes=[f"cut at {cut.isoformat()}"]), _by_person(data.events)
    for user, events in people.items():
        late = [event for event in events if second(event) >= cut]
        if wanted := [event for event in late if options.likes(event)]:
            moved = [
                event.model_copy(update={"occurred_at": cut}) for event in wanted[:1]
            ] + wanted[1:]
            _ask(
                split, options, user, [event for event in events if event not in late] + late, moved
            )
        else:
            split.log += [event for event in events if second(event) < cut]
    if len(split.cases) < len(people) / 10:
        split.notes.append(
            f"warning: only {len(split.cases)} of {len(people)} people have both sides of the cut"
        )
    return split


def sampled(data: Data, options: Options) -> Split:
    """The last liked item among random ones: flatters popularity and text similarity; for
    comparison with others' figures."""
    items = [item.id for item in data.items]
    dice = random.Random(options.seed)
    split = _with_negatives(
        data,
        options,
        lambda case, free: dice.sample(free, min(options.negatives, len(free))),
        items,
    )
    split.notes.append("random negatives: for comparison only")
    return split


def popularity_matched(data: Data, options: Options) -> Split:
    """The last liked item among items about as popular as it is: popularity alone can't find it."""
    log = leave_last_out(
        data, options
    ).log  # what the service will know: the answer's own event must not count
    counts = Counter(event.item_id for event in log if event.item_id is not None)
    by_count = sorted((item.id for item in data.items), key=lambda item: (-counts[item], item))
    places = {item: place for place, item in enumerate(by_count)}

    def near(case: Case, free: list[str]) -> list[str]:
        place = places.get(case.relevant[0], len(by_count))
        return sorted(free, key=lambda item: (abs(places[item] - place), item))[: options.negatives]

    return _with_negatives(data, options, near, by_count)


def _with_negatives(
    data: Data,
    options: Options,
    choose: Callable[[Case, list[str]], list[str]],
    items: Sequence[str],
) -> Split:
    split = leave_last_out(data, options)
    touched = {
        user: {event.item_id for event in events}
        for user, events in _by_person(data.events).items()
    }
    cases = []
    for case in split.cases:
        free = [item for item in items if item not in touched[case.user_id]]
        cases.append(
            case.model_copy(update={"candidates": sorted([*case.relevant, *choose(case, free)])})
        )
    split.cases = cases
    return split


def cold(data: Data, options: Options) -> Split:
    """Half of the people are new: one to three of their first events are known, all they liked
    later is asked for."""
    split, dice = Split(), random.Random(options.seed)
    for user, events in _by_person(data.events).items():
        known = dice.randint(1, COLD)
        if dice.random() < 0.5 or len(events) <= known:
            split.log += events
            continue
        first = [event for event in events if second(event) < second(events[known])][:known]
        wanted = [event for event in events[known:] if options.likes(event)]
        if first and wanted:
            _ask(split, options, user, [*first, *wanted], wanted)
    return split


def given(data: Data, options: Options) -> Split:
    """The folder's own `cases.jsonl`: history and candidates as they stand there, one case a
    person. Of the cases' people the log knows that history alone."""
    if not data.cases:
        raise BadRequest(
            f"{data.folder / 'cases.jsonl'}: protocol 'given' needs it, and it holds no case"
        )
    last = {case.user_id: case for case in sorted(data.cases, key=lambda case: len(case.history))}
    split = Split(log=[event for event in data.events if event.user_id not in last])
    if len(last) < len(data.cases):
        split.notes.append(
            f"{len(data.cases) - len(last)} cases left out: one a person, the one with the "
            f"longest history"
        )
    again = [
        case
        for case in last.values()
        if case.candidates is None and {*case.relevant} & {*case.history}
    ]
    if again and options.meanings["like"].consumes:
        split.notes.append(
            f"warning: {len(again)} cases ask for what their history has, which is retrieved "
            f"for nobody again"
        )
    now = max((event.occurred_at for event in split.log), default=datetime(2026, 1, 1, tzinfo=UTC))
    for case in last.values():
        exclude = sorted({*case.exclude, *case.history} - set(case.relevant))
        split.cases.append(case.model_copy(update={"exclude": exclude}))
        split.log += [
            Event(
                user_id=case.user_id,
                item_id=item,
                type="like",
                occurred_at=now - timedelta(minutes=len(case.history) - place),
            )
            for place, item in enumerate(case.history)
        ]
    return split


PROTOCOLS: dict[str, Callable[[Data, Options], Split]] = {
    "temporal": temporal,
    "random": shuffled,
    "leave-last-out": leave_last_out,
    "global-time": global_time,
    "sampled": sampled,
    "popularity-matched": popularity_matched,
    "cold": cold,
    "given": given,
}


def _by_person(events: Iterable[Event]) -> dict[str, list[Event]]:
    people: dict[str, list[Event]] = {}
    for event in events:
        people.setdefault(event.user_id or "", []).append(event)
    return people


# ── making a case folder ──────────────────────────────────────────────────────────────────────────


def make(data: Data, protocol: str, out: Path, options: Options) -> dict[str, Any]:
    """Write a case folder; returns what `protocol.json` says. Raises `BadRequest` when no case
    comes out."""
    if out.resolve() == data.folder.resolve():
        raise BadRequest(f"{out} is the data itself: choose another --out")
    split = PROTOCOLS[protocol](data, options)
    if not split.cases:
        cure = "; for data without times there is --protocol random" if protocol != "random" else ""
        reason = (
            f"protocol {protocol} finds no case: nobody has both a history and a later "
            f"liked item{cure}"
        )
        raise BadRequest(f"{data.folder}: {reason}")
    cases = _sliced(split)
    random.Random(options.seed).shuffle(cases)
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("items", data.items),
        ("users", data.users),
        ("events", split.log),
        ("cases", cases),
    ):
        with (out / f"{name}.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows)
    told = {
        "protocol": protocol,
        "seed": options.seed,
        "data": str(data.folder),
        "cases": len(cases),
        "people": len({event.user_id for event in data.events}),
        "log": len(split.log),
        "ties": split.ties,
        "relevant_per_case": round(sum(len(case.relevant) for case in cases) / len(cases), 2),
        "notes": split.notes,
    }
    (out / "protocol.json").write_text(json.dumps(told, indent=2) + "\n")
    Data.read(out).audit()
    return told


def _sliced(split: Split) -> list[Case]:
    """Slices every report can show: how much history there is, and whether what is asked for is of
    the head: the most popular items that together make half of the log's events."""
    counts = Counter(event.item_id for event in split.log if event.item_id is not None)
    head, covered, total = set(), 0, sum(counts.values())
    for item, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        if covered >= HEAD * total:
            break
        head.add(item)
        covered += count
    found = []
    for case in split.cases:
        size = len(case.history)
        history = "cold" if size <= COLD else "heavy" if size >= HEAVY else "usual"
        target = (
            "head" if 2 * len(head.intersection(case.relevant)) >= len(case.relevant) else "tail"
        )
        found.append(
            case.model_copy(
                update={"slices": {"history": history, "target": target, **case.slices}}
            )
        )
    return found
