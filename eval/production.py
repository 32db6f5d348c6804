"""What people liked of what they were shown, and where a shadow model had placed it: a run's folder
from the service's log.

No service is asked anything. The folder holds no id of a person.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from eval.cases import LIKED, Case, Data, Options
from eval.run import Job, now, row_of
from eval.suite import Arm
from service.errors import BadRequest
from service.pipeline import Recommender, Shadowed
from service.schema import Event, Ranking

SHOWN = "shown"
"""The arm of what people saw."""
PAGE = 200
METRICS = ("nDCG@10", "MRR@10", "HR@1", "HR@3")
FLATTERED = (
    "only what was shown could be liked, and people like what stands higher more often than it "
    "deserves (position bias): "
    f"{SHOWN!r} is flattered. A shadow that comes up to it is likely the better one; one that "
    f"stays a little behind may be, too"
)


@dataclass(frozen=True)
class Found:
    """A shadowed ranking and what the person then liked of it."""

    at: Shadowed
    liked: list[str]


async def production(
    recommender: Recommender,
    out: Path,
    within: timedelta,
    since: datetime | None = None,
    least: float = LIKED,
) -> dict[str, Any]:
    """Write a folder that `whyrank eval report` reads; returns what its `protocol.json` says.
    Raises `BadRequest`, and writes nothing, when there is no case or the folder holds a run.

    `within`: a like counts so long after the ranking was shown; `since`: only rankings shown from
    then on; `least`: an event of this opinion or more is a like. One case a person and shadow
    model, the last: several of one person would make intervals narrower than they are.
    """
    if (out / "manifest.json").exists():
        raise BadRequest(f"{out} holds a run: choose another --out")
    last: dict[tuple[str, str], Found] = {}
    shadowed = earned = 0
    async for one in _shadowed(recommender, since):
        shadowed += 1
        if liked := await _liked(recommender, one, within, least):
            earned += 1
            last[one.who, one.alias] = Found(one, liked)
    if not last:
        raise BadRequest(_none(shadowed, within))
    notes = [
        f"of {shadowed} shadowed rankings {earned} have a like within "
        f"{within.total_seconds() / 3600:g} h",
        *(
            [f"{earned - len(last)} of them left out: one a person, the last"]
            if earned > len(last)
            else []
        ),
        FLATTERED,
    ]
    return await _write(recommender, out, list(last.values()), notes)


def _none(shadowed: int, within: timedelta) -> str:
    if not shadowed:
        return (
            "no ranking has a shadow yet: shadow.model in the configuration names the model "
            "that ranks beside (docs/shadow.md)"
        )
    hours = f"{within.total_seconds() / 3600:g}"
    return (
        f"none of {shadowed} shadowed rankings has a like within {hours} h: wait, or raise "
        f"--within or lower --least"
    )


async def _shadowed(recommender: Recommender, since: datetime | None) -> AsyncIterator[Shadowed]:
    place = 0
    while page := await recommender.shadowed(place, PAGE, since):
        for one in page:
            yield one
        place = page[-1].seq


async def _liked(
    recommender: Recommender, one: Shadowed, within: timedelta, least: float
) -> list[str]:
    """Items of the shown list. An event that names a ranking counts for that one alone, also while
    its reasons were still being written; one that names none counts if it came after."""
    begun = one.shown_at - timedelta(milliseconds=one.shown.timings.total_ms)
    options = Options(recommender.settings.events.of(one.domain), least=least)
    shown = {item.item_id for item in one.shown.items}

    def counts(event: Event) -> bool:
        named = event.ranking_id
        theirs = named == one.shown.ranking_id or (
            named is None and event.occurred_at >= one.shown_at
        )
        return theirs and event.item_id in shown and options.likes(event)

    done = await recommender.done(one.who, begun, one.shown_at + within)
    return list(
        dict.fromkeys(
            event.item_id for event in done if counts(event) and event.item_id is not None
        )
    )


# ── the folder ────────────────────────────────────────────────────────────────────────────────────


async def _write(
    recommender: Recommender, out: Path, found: Sequence[Found], notes: Sequence[str]
) -> dict[str, Any]:
    folder = out / "cases"
    items = await recommender.items({item.item_id for one in found for item in one.at.shown.items})
    people = {who: f"p{n}" for n, who in enumerate(dict.fromkeys(one.at.who for one in found), 1)}
    cases = [_case(one, people) for one in found]
    told = {
        "protocol": "production",
        "cases": len(cases),
        "people": len(people),
        "relevant_per_case": round(sum(len(case.relevant) for case in cases) / len(cases), 2),
        "from": min(one.at.shown_at for one in found).isoformat(),
        "to": max(one.at.shown_at for one in found).isoformat(),
        "notes": list(notes),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _lines(
        folder / "items.jsonl",
        (item.model_dump(mode="json", exclude_defaults=True) for item in items.values()),
    )
    _lines(
        folder / "cases.jsonl",
        (case.model_dump(mode="json", exclude_defaults=True) for case in cases),
    )
    (folder / "protocol.json").write_text(json.dumps(told, indent=2) + "\n")
    _lines(
        out / "rows.jsonl",
        (row for one, case in zip(found, cases, strict=True) for row in _rows(one, case, folder)),
    )
    (out / "manifest.json").write_text(json.dumps(_manifest(folder), indent=2) + "\n")
    return told


def _case(one: Found, people: Mapping[str, str]) -> Case:
    shown = one.at.shown
    return Case(
        case_id=f"{shown.ranking_id}:{one.at.alias}",
        user_id=people[one.at.who],
        candidates=[item.item_id for item in shown.items],
        relevant=one.liked,
        at=one.at.shown_at,
        slices={"domain": one.at.domain, "shown by": _by(shown), "shadow by": _by(one.at.shadow)},
    )


def _by(ranking: Ranking) -> str:
    return f"{ranking.strategy}:{ranking.model}" if ranking.model else ranking.strategy


def _rows(one: Found, case: Case, folder: Path) -> Iterator[dict[str, Any]]:
    """Both orders of the items that were shown, each with the time that ranking took."""
    shown = set(case.candidates or ())
    for name, ranking in ((SHOWN, one.at.shown), (f"shadow:{one.at.alias}", one.at.shadow)):
        seen = ranking.model_copy(
            update={"items": [item for item in ranking.items if item.item_id in shown]}
        )
        arm = Arm(name=name, data=folder, strategy=ranking.strategy, model=ranking.model)
        yield row_of(Job(arm, case), seen, seconds=ranking.timings.model_ms / 1000)


def _manifest(folder: Path) -> dict[str, Any]:
    suite = {
        "title": "What did people like of what they were shown?",
        "about": "",
        "baseline": SHOWN,
        "seed": 0,
    }
    return {
        "suite": {**suite, "metrics": METRICS},
        "data": {folder.name: Data.read(folder).sha},
        "folders": [str(folder.resolve())],
        "windows": {},
        "notes": [],
        "begun_at": now(),
        "versions": {"whyrank": importlib.metadata.version("whyrank")},
    }


def _lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
