"""Writes a run's folder from the service's log: what people liked of what they were shown, and
where a shadow model had placed it.

No model is asked anything. The folder holds no id of a person."""

import importlib.metadata
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from eval.cases import Case, Data
from eval.protocols import LIKED, Options
from eval.rows import Attempt, RunJob, RunRow, row_of
from eval.run import now
from eval.suite import Arm
from service.build import Service
from service.errors import BadRequest
from service.records import Shadowed
from service.schema import Ranking

SHOWN = "shown"
"""The name of the arm whose rankings people saw."""
PAGE = 200
METRICS = ("nDCG@10", "MRR@10", "HR@1", "HR@3")
FLATTERED = (
    "only what was shown could be liked, and people like what stands higher more often than it "
    "deserves (position bias): "
    f"{SHOWN!r} is flattered. A shadow that comes up to it is likely the better one; one that "
    f"stays a little behind may be, too"
)


@dataclass(frozen=True)
class LikedRanking:
    """`shadowed`: a ranking as it was shown, beside the shadow model's; `liked`: the ids of the
    shown items that the person then liked."""

    shadowed: Shadowed
    liked: list[str]


async def production(
    service: Service,
    out: Path,
    within: timedelta,
    since: datetime | None = None,
    least: float = LIKED,
) -> dict[str, Any]:
    """Writes a folder that `whyrank eval report` reads; returns what its `protocol.json` says.
    Raises `BadRequest`, and writes nothing, when there is no case or the folder holds a run.

    `within`: a like counts so long after the ranking was shown; `since`: only rankings shown from
    then on; `least`: an event of this opinion or more is a like. One case a person and shadow
    model, the last: several of one person would make intervals narrower than they are.
    """
    if (out / "manifest.json").exists():
        raise BadRequest(f"{out} holds a run: choose another --out")
    last: dict[tuple[str, str], LikedRanking] = {}
    rankings = earned = 0
    async for shadowed in _shadowed(service, since):
        rankings += 1
        liked = await _liked(service, shadowed, within, least)
        if liked:
            earned += 1
            last[shadowed.who, shadowed.alias] = LikedRanking(shadowed, liked)
    if not last:
        raise BadRequest(_nothing_to_learn(rankings, within))
    notes = [
        f"of {rankings} shadowed rankings {earned} have a like within "
        f"{within.total_seconds() / 3600:g} h"
    ]
    if earned > len(last):
        notes.append(f"{earned - len(last)} of them left out: one a person, the last")
    notes.append(FLATTERED)
    return await _write(service, out, list(last.values()), notes)


def _nothing_to_learn(rankings: int, within: timedelta) -> str:
    """Says why there is no case, and what to do."""
    if not rankings:
        return (
            "no ranking has a shadow yet: shadow.model in the configuration names the model "
            "that ranks beside (docs/shadow.md)"
        )
    hours = f"{within.total_seconds() / 3600:g}"
    return (
        f"none of {rankings} shadowed rankings has a like within {hours} h: wait, or raise "
        f"--within or lower --least"
    )


async def _shadowed(service: Service, since: datetime | None) -> AsyncIterator[Shadowed]:
    place = 0
    while page := await service.records.shadowed(place, PAGE, since):
        for shadowed in page:
            yield shadowed
        place = page[-1].seq


async def _liked(
    service: Service, shadowed: Shadowed, within: timedelta, least: float
) -> list[str]:
    """Returns the ids of items of the shown list that the person liked, each once. An event that
    names a ranking counts for that ranking alone, even if its reasons were still being written; an
    event that names none counts if it came after."""
    ranking, shown_at = shadowed.shown, shadowed.shown_at
    begun = shown_at - timedelta(milliseconds=ranking.timings.total_ms)
    options = Options(service.settings.events.of(shadowed.domain), least=least)
    shown = {item.item_id for item in ranking.items}
    liked: dict[str, None] = {}
    for event in await service.records.events_between(shadowed.who, begun, shown_at + within):
        if event.ranking_id is None:
            about_it = event.occurred_at >= shown_at
        else:
            about_it = event.ranking_id == ranking.ranking_id
        if about_it and event.item_id in shown and options.likes(event):
            liked[event.item_id] = None
    return list(liked)


# ── the folder ────────────────────────────────────────────────────────────────────────────────────


async def _write(
    service: Service, out: Path, rankings: Sequence[LikedRanking], notes: Sequence[str]
) -> dict[str, Any]:
    folder = out / "cases"
    shadowings = [ranking.shadowed for ranking in rankings]
    ids = {item.item_id for shadowed in shadowings for item in shadowed.shown.items}
    items = await service.records.items(ids)
    people = dict.fromkeys(shadowed.who for shadowed in shadowings)
    aliases = {who: f"p{n}" for n, who in enumerate(people, 1)}
    cases = [_case(ranking, aliases) for ranking in rankings]
    protocol = {
        "protocol": "production",
        "cases": len(cases),
        "people": len(people),
        "relevant_per_case": round(sum(len(case.relevant) for case in cases) / len(cases), 2),
        "from": min(shadowed.shown_at for shadowed in shadowings).isoformat(),
        "to": max(shadowed.shown_at for shadowed in shadowings).isoformat(),
        "notes": list(notes),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, nouns in (("items", items.values()), ("cases", cases)):
        dumped = (noun.model_dump(mode="json", exclude_defaults=True) for noun in nouns)
        _write_lines(folder / f"{name}.jsonl", dumped)
    (folder / "protocol.json").write_text(json.dumps(protocol, indent=2) + "\n")
    rows = []
    for shadowed, case in zip(shadowings, cases, strict=True):
        rows += [row.as_dict() for row in _rows(shadowed, case, folder)]
    _write_lines(out / "rows.jsonl", rows)
    (out / "manifest.json").write_text(json.dumps(_manifest(folder), indent=2) + "\n")
    return protocol


def _case(ranking: LikedRanking, aliases: Mapping[str, str]) -> Case:
    shadowed = ranking.shadowed
    shown = shadowed.shown
    return Case(
        case_id=f"{shown.ranking_id}:{shadowed.alias}",
        user_id=aliases[shadowed.who],
        candidates=[item.item_id for item in shown.items],
        relevant=ranking.liked,
        at=shadowed.shown_at,
        slices={
            "domain": shadowed.domain,
            "shown by": _ranker(shown),
            "shadow by": _ranker(shadowed.shadow),
        },
    )


def _ranker(ranking: Ranking) -> str:
    return f"{ranking.strategy}:{ranking.model}" if ranking.model else ranking.strategy


def _rows(shadowed: Shadowed, case: Case, folder: Path) -> Iterator[RunRow]:
    """Yields a row for the order that was shown and one for the shadow model's order of the same
    items, each with the seconds that its model took."""
    candidates = set(case.candidates or ())
    arms = {SHOWN: shadowed.shown, f"shadow:{shadowed.alias}": shadowed.shadow}
    for name, ranking in arms.items():
        items = [item for item in ranking.items if item.item_id in candidates]
        arm = Arm(name=name, data=folder, strategy=ranking.strategy, model=ranking.model)
        attempt = Attempt(
            ranking.model_copy(update={"items": items}), seconds=ranking.timings.model_ms / 1000
        )
        yield row_of(RunJob(arm, case), attempt)


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


def _write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
