"""Protocols: how a log is split into what is known and what is asked for, and written as a case
folder."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from eval.cases import Case, Data, log_order, second
from service.errors import BadRequest
from service.schema import Event, Meaning

LIKED = 0.5
"""An event says "liked" from this opinion on, unless another is given: a rating ≥ 4, a purchase, a
like, a play."""
FEWEST = 5
"""People with fewer liked items than this are part of the log only."""
SHARE = 0.2
CUT = 0.9
COLD = 3
"""A history of at most so many items is cold."""
HEAVY = 100
"""A history of at least so many items is heavy."""
HEAD = 0.5
"""The head: the most popular items that together have this share of the log's events."""


@dataclass
class Split:
    """What a protocol makes of the data. `log`: events that may be known. `ties`: how many cases
    exclude items of their own second. `notes`: what a reader of the results must know."""

    cases: list[Case] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)
    ties: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """What protocols may vary. `meanings`: what each type of event means. `negatives`: how many
    other items `sampled` and `popularity-matched` put beside the answers. `share`: the share of a
    person's likes that `temporal` and `random` ask for. `cut`: the share of all events that lies
    before the cut of `global-time`. `least`: the opinion from which an event says "liked"."""

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
        """Returns whether after this event its item can't be an answer any more: it was liked,
        consumed or blocked, not only seen."""
        meaning = self.meanings.get(event.type)
        return self.likes(event) or (meaning is not None and (meaning.consumes or meaning.blocks))


def temporal(data: Data, options: Options) -> Split:
    """Asks for the last `options.share` of each person's liked items in time order."""
    return _per_person(data, options, lambda likes: max(1, round(options.share * len(likes))))


def leave_last_out(data: Data, options: Options) -> Split:
    """Each person's last liked item is asked for."""
    return _per_person(data, options, lambda likes: 1)


def shuffled(data: Data, options: Options) -> Split:
    """A random share of each person's liked items is asked for: for data without times. A person's
    events are put in random order and given a time each, second by second up to their last one, so
    that the log can be read as any other."""
    dice = random.Random(options.seed)
    events = []
    for theirs in _by_person(data.events).values():
        last = max(second(event) for event in theirs)
        order = dice.sample(theirs, len(theirs))
        events += [
            event.model_copy(update={"occurred_at": last - timedelta(seconds=n)})
            for n, event in enumerate(order)
        ]
    split = temporal(replace(data, events=sorted(events, key=log_order)), options)
    split.notes.append("random order: what is asked for is not what came later")
    return split


def _per_person(data: Data, options: Options, asked: Callable[[Sequence[Event]], int]) -> Split:
    split = Split()
    for user, events in _by_person(data.events).items():
        likes = [event for event in events if options.likes(event)]
        if len(likes) < FEWEST:
            split.log += events
        else:
            _add_case(split, options, user, events, likes[-asked(likes) :])
    return split


def _add_case(
    split: Split, options: Options, user: str, events: Sequence[Event], wanted: Sequence[Event]
) -> None:
    """Adds a case to the split, and the user's events before it to the log. `wanted`: the likes
    that are asked for; the case is at the second of the first. No case is made of a person without
    a history or without a new item to find."""
    at = second(wanted[0])
    before = [event for event in events if second(event) < at]
    history = list(dict.fromkeys(event.item_id for event in before if event.item_id is not None))
    settled = {event.item_id for event in before if options.settles(event)}
    answers = [event.item_id for event in wanted if event.item_id]
    relevant = [item for item in dict.fromkeys(answers) if item not in settled]
    split.log += before
    if history and relevant:
        tied = [event.item_id for event in events if event.item_id and second(event) == at]
        exclude = [item for item in dict.fromkeys(tied) if item not in {*relevant, *history}]
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
        wanted = [event for event in late if options.likes(event)]
        if wanted:
            # the case is at the cut, whenever it was that its first answer was liked
            first = wanted[0].model_copy(update={"occurred_at": cut})
            early = [event for event in events if event not in late]
            _add_case(split, options, user, [*early, *late], [first, *wanted[1:]])
        else:
            split.log += [event for event in events if second(event) < cut]
    if len(split.cases) < len(people) / 10:
        split.notes.append(
            f"warning: only {len(split.cases)} of {len(people)} people have both sides of the cut"
        )
    return split


def sampled(data: Data, options: Options) -> Split:
    """Asks for each person's last liked item among random other items. This flatters popularity and
    text similarity, and is there for comparison with published figures."""
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
    """Asks for each person's last liked item among other items that are about as popular:
    popularity alone can't find it."""
    # as popular as the service will know them to be: the answer's own event must not count
    log = leave_last_out(data, options).log
    counts = Counter(event.item_id for event in log if event.item_id is not None)
    by_count = sorted((item.id for item in data.items), key=lambda item: (-counts[item], item))
    places = {item: place for place, item in enumerate(by_count)}

    def nearest(case: Case, free: list[str]) -> list[str]:
        place = places.get(case.relevant[0], len(by_count))
        return sorted(free, key=lambda item: (abs(places[item] - place), item))[: options.negatives]

    return _with_negatives(data, options, nearest, by_count)


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
            _add_case(split, options, user, [*first, *wanted], wanted)
    return split


def given(data: Data, options: Options) -> Split:
    """Takes the folder's own `cases.jsonl`, one case a person (that with the longest history), with
    history and candidates as they stand there. Of these people the log holds that history alone.
    Raises `BadRequest` if there is no case."""
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


# ── the case folder ───────────────────────────────────────────────────────────────────────────────


def make(data: Data, protocol: str, out: Path, options: Options) -> dict[str, Any]:
    """Writes a case folder; returns what its `protocol.json` says. Raises `BadRequest` if the
    protocol finds no case, or if `out` is the data's own folder."""
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
    summary = {
        "protocol": protocol,
        "seed": options.seed,
        "share": options.share,
        "cut": options.cut,
        "data": str(data.folder),
        "cases": len(cases),
        "people": len({event.user_id for event in data.events}),
        "log": len(split.log),
        "ties": split.ties,
        "relevant_per_case": round(sum(len(case.relevant) for case in cases) / len(cases), 2),
        "notes": split.notes,
    }
    (out / "protocol.json").write_text(json.dumps(summary, indent=2) + "\n")
    Data.read(out).audit()
    return summary


def _sliced(split: Split) -> list[Case]:
    """Returns the cases with two slices that every report can show: `history` (`cold`, `usual` or
    `heavy`), and `target` (`head` if at least half of the answers are of the head, else `tail`)."""
    counts = Counter(event.item_id for event in split.log if event.item_id is not None)
    head, covered, total = set(), 0, sum(counts.values())
    for item, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        if covered >= HEAD * total:
            break
        head.add(item)
        covered += count
    cases = []
    for case in split.cases:
        size = len(case.history)
        history = "cold" if size <= COLD else "heavy" if size >= HEAVY else "usual"
        popular = head.intersection(case.relevant)
        target = "head" if 2 * len(popular) >= len(case.relevant) else "tail"
        slices = {"history": history, "target": target, **case.slices}
        cases.append(case.model_copy(update={"slices": slices}))
    return cases
