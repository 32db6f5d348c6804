"""What a run found: a leaderboard with intervals, slices, flags; as tables, CSV, JSON, Markdown and
one HTML page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from eval import metrics, stats
from eval.cases import Data
from eval.metrics import World, metric
from eval.run import rows
from eval.suite import SOURCES, STANDALONE, beside
from service.errors import BadRequest
from service.schema import Event, Item

FLOOR, CEILING = "shuffled", "oracle"
TOO_GOOD = 0.95
"""An arm that reaches so much of the oracle is flagged: no honest ranking does."""
LEGEND = (
    "Metrics × 100 (novelty in bits; p and rates as they are). “could see”: the smallest true "
    "difference that so many cases "
    "show in 8 of 10 experiments. “shuffled” and “oracle” reorder what a model would see of the "
    "prior's candidates: what no "
    "information and full information would reach."
)
ALONE = "alone:"
HEAVY = ("scores", "said", "asked", "prior_values", "model_values", "likelihoods")
"""What a report does not need of a row: a hundred thousand of them are to fit in memory."""
DEGRADED = 0.05
"""More rankings than this without what was asked for are flagged."""
FEW = 5
"""A slice of fewer cases is not shown."""

Row = dict[str, Any]


@dataclass(frozen=True)
class ArmLine:
    """One arm. `baseline`: the arm of the same settings and data that it is compared with.
    `values`: mean of each metric.

    `interval`: of the first. `versus`: the first metric against the baseline, `holm`: its p-value
    adjusted for the number of arms looked at; `also`: against the suite's second baseline. `rates`:
    operational figures, None where there is none. `sources`: the first metric less that of each
    source of its prior alone, by the source's name; empty for a source.
    """

    arm: str
    baseline: str
    cases: int
    values: dict[str, float]
    interval: tuple[float, float]
    versus: stats.Paired | None
    also: stats.Paired | None
    holm: float | None
    rates: dict[str, float | None]
    flags: list[str] = field(default_factory=list)
    sources: dict[str, stats.Paired] = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    name: str
    value: str
    cases: int
    means: dict[str, float]
    versus: dict[str, stats.Paired]


@dataclass(frozen=True)
class Report:
    """`title`, `about`: the suite's own words. `headline`: the metric that the intervals are of.
    `protocols`: what each case folder says of itself; `asked`: how many of its cases the baseline
    has."""

    title: str
    about: str
    headline: str
    baseline: str
    lines: list[ArmLine]
    slices: list[Slice]
    protocols: dict[str, dict[str, Any]]
    manifest: dict[str, Any]
    missing: int
    asked: dict[str, int]

    def line(self, arm: str) -> ArmLine:
        for line in self.lines:
            if line.arm == arm:
                return line
        raise BadRequest(f"no arm {arm!r}; arms: {', '.join(line.arm for line in self.lines)}")


class Results:
    """A run's rows with their cases, scored. Values are per case, the mean over its repeats."""

    def __init__(self, out: Path) -> None:
        manifest = out / "manifest.json"
        if not manifest.exists():
            raise BadRequest(f"{out} holds no run: 'whyrank eval run SUITE --out {out}' makes one")
        self.out = out
        self.manifest: dict[str, Any] = json.loads(manifest.read_text())
        suite = self.manifest["suite"]
        self.names: list[str] = suite["metrics"]
        self.baseline: str = suite["baseline"]
        self.seed: int = suite["seed"]
        self.folders = {Path(one).name: Path(one) for one in self.manifest["folders"]}
        self.data = {name: Data.read(folder) for name, folder in self.folders.items()}
        for name, data in self.data.items():
            if data.sha != self.manifest["data"][name]:
                raise BadRequest(
                    f"{data.folder} is not what it was when {out} was run: its rows can't be "
                    f"scored any more"
                )
        self.cases = {
            (name, case.case_id): case for name, data in self.data.items() for case in data.cases
        }
        self.worlds = {name: world(data.items, data.events) for name, data in self.data.items()}
        self.rows: dict[str, dict[tuple[str, str], list[Row]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.probes: dict[str, dict[str, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
        known: dict[str, str] = {}
        count = 0
        for row in rows(out):
            count += 1
            for name in HEAVY:
                row.pop(name, None)
            row["items"] = [known.setdefault(item, item) for item in row["items"]]
            if row["probe"]:
                self.probes[row["arm"]][row["case"]][row["probe"]] = row
            else:
                self.rows[row["arm"]][row["data"], row["case"]].append(row)
        if not any(self.baseline in {arm, arm.partition(" ")[0]} for arm in self.rows):
            raise BadRequest(
                f"{out}: no row of the baseline {self.baseline!r} yet: let the run go on"
            )
        places = {key: place for place, key in enumerate(self.cases)}
        for (
            arm,
            of,
        ) in (
            self.rows.items()
        ):  # rows come in the order of their finish: every run must fold them alike
            self.rows[arm] = defaultdict(list, sorted(of.items(), key=lambda pair: places[pair[0]]))
        self._bounds()
        wanted = (
            json.loads((out / "wanted.json").read_text())["rankings"]
            if (out / "wanted.json").exists()
            else 0
        )
        self.missing = max(0, wanted - count)
        self.scores = {
            arm: {key: self._score(key, of) for key, of in cases.items()}
            for arm, cases in self.rows.items()
        }

    def _bounds(self) -> None:
        """What any reordering of the window that the model sees could at worst and at best reach:
        shuffled and oracle, for each prior; and what each model's own order does without the prior.
        Shuffled is the mean of ten shuffles of each case."""
        for arm in [arm for arm in self.rows if not bound(arm)]:
            for key, (row, *_) in list(self.rows[arm].items()):
                if row["order"]:
                    rest = [item for item in row["items"] if item not in set(row["order"])]
                    self.rows[ALONE + arm][key] = [{**row, "items": [*row["order"], *rest]}]
        for prior in [arm for arm in self.rows if arm.partition(" ")[0] == "prior"]:
            size = self.manifest["windows"][prior]
            for key, (row, *_) in list(self.rows[prior].items()):
                window, rest = row["items"][:size], row["items"][size:]
                relevant = set(self.cases[key].relevant)
                dice = Random(f"{self.seed} {key}")
                best = sorted(window, key=lambda item: item not in relevant)
                mixed = [dice.sample(window, len(window)) for _ in range(10)]
                self.rows[beside(CEILING, prior)][key] = [{**row, "items": best + rest}]
                self.rows[beside(FLOOR, prior)][key] = [
                    {**row, "items": order + rest} for order in mixed
                ]

    def against(self, arm: str) -> str:
        """The baseline for an arm: of the same settings and data, else the one that was named."""
        near = beside(self.baseline, arm)
        return near if near in self.rows else self.baseline

    def _score(self, key: tuple[str, str], of: Sequence[Row]) -> list[float]:
        case, known = self.cases[key], self.worlds[key[0]]
        relevant = frozenset(case.relevant)
        values = [
            [metric(name).of(row["items"], relevant, known) for name in self.names] for row in of
        ]
        return [sum(column) / len(values) for column in zip(*values, strict=True)]

    def column(
        self, arm: str, keys: Iterable[tuple[str, str]], name: str | None = None
    ) -> list[float]:
        place = self.names.index(name) if name is not None else 0
        return [self.scores[arm][key][place] for key in keys]

    def shared(self, arm: str, other: str) -> list[tuple[str, str]]:
        """The cases that both arms have, in one order."""
        return [key for key in self.scores[arm] if key in self.scores[other]]


def world(items: Sequence[Item], events: Sequence[Event]) -> World:
    acted = {(event.user_id, event.item_id) for event in events if event.item_id is not None}
    facts = {item.id: frozenset(item.facts()) for item in items}
    return World(
        facts,
        Counter(item for _, item in acted if item is not None),
        len({user for user, _ in acted}),
    )


# ── the fold ──────────────────────────────────────────────────────────────────────────────────────


def report(out: Path, by: Sequence[str] = ()) -> Report:
    """Fold a run's rows. `by`: attributes of users to slice by, beside history and target. Raises
    `BadRequest`."""
    found = Results(out)
    leaks = json.loads((out / "leaks.json").read_text()) if (out / "leaks.json").exists() else {}
    arms = sorted(found.rows)
    others = [arm for arm in arms if not bound(arm) and arm != found.against(arm)]
    versus = {}
    for arm in [
        *others,
        *(arm for arm in arms if arm.partition(" ")[0] == FLOOR or arm.startswith(ALONE)),
    ]:
        if keys := found.shared(arm, found.against(arm)):
            pairs = found.column(arm, keys), found.column(found.against(arm), keys)
            versus[arm] = stats.paired(*pairs, found.seed, looks=max(1, len(others)))
    adjusted = stats.holm({arm: versus[arm].p for arm in others if arm in versus})
    lines = [_line(found, arm, versus.get(arm), adjusted.get(arm), leaks.get(arm)) for arm in arms]
    lines = [_beside_sources(found, replace(line, also=_also(found, line.arm))) for line in lines]
    lines.sort(key=lambda line: (-line.values[found.names[0]], line.arm))
    protocols = {name: _protocol(folder) for name, folder in found.folders.items()}
    title = (
        found.manifest["suite"]["title"]
        or f"Who ranks best? {found.names[0]}, against {found.baseline}"
    )
    about = found.manifest["suite"]["about"].strip()
    baselines = [arm for arm in arms if arm == found.against(arm)]
    asked = dict(Counter(name for name, _ in {key for arm in baselines for key in found.rows[arm]}))
    return Report(
        title,
        about,
        found.names[0],
        found.baseline,
        lines,
        _slices(found, by),
        protocols,
        found.manifest,
        found.missing,
        asked,
    )


def _also(found: Results, arm: str) -> stats.Paired | None:
    """Against the suite's second baseline, where it has one."""
    other = found.manifest["suite"].get("beside")
    if (
        other is None
        or other not in found.scores
        or arm == other
        or arm.partition(" ")[0] == CEILING
    ):
        return None
    keys = found.shared(arm, other)
    return (
        stats.paired(found.column(arm, keys), found.column(other, keys), found.seed)
        if keys
        else None
    )


def _beside_sources(found: Results, line: ArmLine) -> ArmLine:
    """The line with its differences to the sources of its prior, and a flag for each source that is
    clearly better alone."""
    if bound(line.arm) or line.arm.partition(" ")[0] in STANDALONE:
        return line
    gaps = {}
    for source in STANDALONE:
        other = beside(source, line.arm)
        if keys := found.shared(line.arm, other) if other in found.scores else []:
            gaps[source] = stats.paired(
                found.column(line.arm, keys), found.column(other, keys), found.seed
            )
    flags = [
        f"below {source}, a source of its prior: {_with_interval(gap)}"
        for source, gap in gaps.items()
        if gap.high < 0
    ]
    return replace(line, sources=gaps, flags=[*line.flags, *flags])


def bound(arm: str) -> bool:
    return arm.partition(" ")[0] in {FLOOR, CEILING} or arm.startswith(ALONE)


def _line(
    found: Results, arm: str, versus: stats.Paired | None, holm: float | None, leak: str | None
) -> ArmLine:
    cases = found.rows[arm]
    keys = list(cases)
    every = [row for of in cases.values() for row in of]
    values = {name: float(np.mean(found.column(arm, keys, name))) for name in found.names}
    depth = metric(found.names[0]).k or 10
    catalogue = sum(len(found.data[name].items) for name in {name for name, _ in keys})
    values[f"coverage@{depth}"] = metrics.coverage(
        [of[0]["items"] for of in cases.values()], depth, catalogue
    )
    flags = [leak] if leak else []
    ceiling = found.scores.get(beside(CEILING, arm), {})
    best = [ceiling[key][0] for key in keys if key in ceiling]
    if not bound(arm) and best and values[found.names[0]] > TOO_GOOD * float(np.mean(best)) > 0:
        flags.append(
            f"reaches {values[found.names[0]] / float(np.mean(best)):.0%} of the oracle: look "
            f"for a leak"
        )
    interval = stats.interval(found.column(arm, keys), found.seed)
    rates = dict.fromkeys(RATES) if bound(arm) else _rates(every, found.probes.get(arm, {}))
    return ArmLine(
        arm, found.against(arm), len(cases), values, interval, versus, None, holm, rates, flags
    )


def _rates(
    every: Sequence[Row], probes: Mapping[str, Mapping[str, Row]]
) -> dict[str, float | None]:
    """Shares in [0, 1], seconds, tokens a ranking, US dollars in all."""
    seconds = [row["seconds"] for row in every]
    spoken = [row for row in every if row["model"] is not None]
    grounded = [row["grounded"] for row in every if row["grounded"] is not None]
    costs = [row["cost"] for row in every if row["cost"] is not None]
    both = _both_ways(probes, every)
    return {
        "valid_rate": _mean(
            not row["error"] and len(set(row["items"])) == len(row["items"]) > 0 for row in every
        ),
        "repair_rate": _mean(row["repairs"] > 0 for row in spoken),
        "degraded_rate": _mean(row["degraded"] is not None for row in every),
        "grounded_rate": _mean(grounded),
        "position_bias": _mean(_position_bias(one, two) for one, two in both),
        "order_stability": _mean(metrics.kendall(one["order"], two["order"]) for one, two in both),
        "sensitivity": _mean(one["order"] != two["order"] for one, two in _asked_twice(probes)),
        "seconds_p50": float(np.quantile(seconds, 0.5)) if seconds else None,
        "seconds_p95": float(np.quantile(seconds, 0.95)) if seconds else None,
        "tokens": _mean(sum(row["tokens"]) for row in every),
        "cost": sum(costs) if costs else None,
    }


RATES = (
    *(
        "valid_rate",
        "repair_rate",
        "degraded_rate",
        "grounded_rate",
        "position_bias",
        "order_stability",
        "sensitivity",
    ),
    *("seconds_p50", "seconds_p95", "tokens", "cost"),
)


def _mean(values: Iterable[float]) -> float | None:
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else None


def _both_ways(
    probes: Mapping[str, Mapping[str, Row]], every: Sequence[Row]
) -> list[tuple[Row, Row]]:
    """The same window shown in prior order and reversed."""
    plain = {row["case"]: row for row in every if row["order"] and row["repeat"] == 0}
    both = [
        (plain[case], asked["reversed"])
        for case, asked in probes.items()
        if case in plain and "reversed" in asked
    ]
    return [(one, two) for one, two in both if set(one["order"]) == set(two["order"])]


def _position_bias(forward: Row, backward: Row) -> float:
    """Spearman's ρ of slot and rank, averaged over an ordering and its reverse: what the items
    themselves explain cancels out. 1: the model repeats the order it is shown; 0: the slot says
    nothing; −1: it reverses it."""
    ahead = metrics.spearman(forward["window"], forward["order"])
    behind = metrics.spearman(forward["window"][::-1], backward["order"])
    return (ahead + behind) / 2


def _asked_twice(probes: Mapping[str, Mapping[str, Row]]) -> list[tuple[Row, Row]]:
    """The same candidates in the same order, for the case's user and for another."""
    both = [
        (asked["own"], asked["other"])
        for asked in probes.values()
        if {"own", "other"} <= asked.keys()
    ]
    return [(own, other) for own, other in both if own["order"] and other["order"]]


def _slices(found: Results, by: Sequence[str]) -> list[Slice]:
    """Every arm's headline metric, and its difference to the baseline, on parts of the cases."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for name, data in found.data.items():
        declared = {user.user_id: user.attributes for user in data.users}
        for case in data.cases:
            key = name, case.case_id
            if any(key in found.scores[arm] for arm in found.scores if arm == found.against(arm)):
                for label, value in case.slices.items():
                    groups[label, value].append(key)
                for label in by:
                    if (said := declared.get(case.user_id, {}).get(label)) is not None:
                        groups[label, str(said)].append(key)
    unknown = set(by) - {label for label, _ in groups}
    if unknown:
        raise BadRequest(
            f"nobody declares {', '.join(sorted(unknown))}: slices are by attributes in users.jsonl"
        )
    slices = []
    for (label, value), keys in sorted(groups.items()):
        means, versus = {}, {}
        for arm in found.scores:
            shared = [key for key in keys if key in found.scores[arm]]
            if len(shared) >= FEW:
                means[arm] = float(np.mean(found.column(arm, shared)))
                base = found.against(arm)
                both = [key for key in shared if key in found.scores[base]]
                if not bound(arm) and arm != base and len(both) >= FEW:
                    one, other = found.column(arm, both), found.column(base, both)
                    versus[arm] = stats.paired(one, other, found.seed, resamples=2_000)
        if means:
            slices.append(Slice(label, value, len(keys), means, versus))
    return slices


def _protocol(folder: Path) -> dict[str, Any]:
    file = folder / "protocol.json"
    told: dict[str, Any] = (
        json.loads(file.read_text()) if file.exists() else {"protocol": "unknown"}
    )
    return told


# ── comparing two ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Comparison:
    """`better`: cases where the first arm gains most, with both values; `worse`: where it loses
    most."""

    versus: stats.Paired
    better: list[tuple[str, float, float]]
    worse: list[tuple[str, float, float]]


def compare(out: Path, one: str, other: str, name: str | None = None, show: int = 10) -> Comparison:
    """The paired difference of two arms in a metric (default: the first). Raises `BadRequest` for
    an unknown arm."""
    found = Results(out)
    for arm in (one, other):
        if arm not in found.scores:
            raise BadRequest(f"no arm {arm!r}; arms: {', '.join(found.scores)}")
    if name is not None and (name := str(metric(name))) not in found.names:
        raise BadRequest(
            f"{name} was not measured; measured: {', '.join(found.names)} (metrics in the suite)"
        )
    keys = found.shared(one, other)
    if not keys:
        raise BadRequest(f"{one} and {other} share no case")
    ones, others = found.column(one, keys, name), found.column(other, keys, name)
    gaps = sorted(
        ((case, a, b) for (_, case), a, b in zip(keys, ones, others, strict=True)),
        key=lambda gap: gap[2] - gap[1],
    )
    better = [gap for gap in gaps[:show] if gap[1] > gap[2]]
    worse = [gap for gap in gaps[::-1][:show] if gap[1] < gap[2]]
    return Comparison(stats.paired(ones, others, found.seed), better, worse)


# ── what a reader gets ────────────────────────────────────────────────────────────────────────────


def table(found: Report) -> tuple[list[str], list[list[str]]]:
    """The leaderboard as text: header, rows. Metrics times 100; the interval is of the first."""
    names = list(found.lines[0].values)
    rates = [
        name
        for name in found.lines[0].rates
        if any(line.rates[name] is not None for line in found.lines)
    ]
    second = found.manifest["suite"].get("beside")
    header = [
        "arm",
        "cases",
        found.headline,
        "95 %",
        f"− {found.baseline}",
        "95 %",
        "p (Holm)",
        "could see",
        *([f"− {second}", "95 %"] if second else []),
        *names[1:],
        *rates,
    ]
    return header, [_cells(line, names, rates, second=bool(second)) for line in found.lines]


def _cells(line: ArmLine, names: Sequence[str], rates: Sequence[str], *, second: bool) -> list[str]:
    low, high = line.interval
    cells = [
        line.arm,
        str(line.cases),
        _hundred(line.values[names[0]]),
        f"{_hundred(low)}…{_hundred(high)}",
    ]
    if line.versus is None:
        cells += ["", "", "", ""]
    else:
        gap = line.versus
        cells += [_signed(gap.difference), f"{_signed(gap.low)}…{_signed(gap.high)}"]
        cells += [
            "" if line.holm is None else "<0.001" if line.holm < 0.001 else f"{line.holm:.3f}",
            f"{100 * gap.seen:.2f}",
        ]
    if second:
        also = line.also
        cells += (
            [_signed(also.difference), f"{_signed(also.low)}…{_signed(also.high)}"]
            if also is not None
            else ["", ""]
        )
    cells += [
        f"{line.values[name]:.2f}" if name.startswith("novelty") else _hundred(line.values[name])
        for name in names[1:]
    ]
    return cells + [_rate(name, line.rates[name]) for name in rates]


def _hundred(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.2f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}"


def _with_interval(gap: stats.Paired) -> str:
    return f"{_signed(gap.difference)} ({_signed(gap.low)}…{_signed(gap.high)})"


def _rate(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name.endswith("_rate"):
        return f"{value:.1%}"
    return (
        f"{value:.0f}" if name == "tokens" else f"{value:.4f}" if name == "cost" else f"{value:.2f}"
    )


def verdict(found: Report, line: ArmLine) -> str:
    """One sentence on an arm against the baseline, or "" where there is nothing to say."""
    gap = line.versus
    if gap is None or bound(line.arm):
        return ""
    if line.holm is not None and line.holm < 0.05 and gap.clear:
        word = "better" if gap.difference > 0 else "worse"
        return (
            f"{line.arm} is {word} than {line.baseline}: {_signed(gap.difference)} {found.headline}"
        )
    if gap.difference == gap.low == gap.high == 0:
        return f"{line.arm}: no difference to {line.baseline}"
    seen = f"{100 * gap.seen:.2f}"
    return (
        f"{line.arm}: no difference to {line.baseline} is shown; {gap.cases} cases could "
        f"have shown {seen}"
    )


def markdown(found: Report) -> str:
    header, lines = table(found)
    sizes = f"Asked: {', '.join(_size(found, name) for name in found.protocols)}."
    told = [
        f"# {found.title}",
        "",
        *([found.about, ""] if found.about else []),
        sizes,
        "",
        LEGEND,
        "",
    ]
    out = [
        *told,
        _row(header),
        _row(["---"] * len(header)),
        *map(_row, lines),
        "",
        *_sources_table(found),
    ]
    out += [
        f"- {told}"
        for told in [*notes(found), *filter(None, (verdict(found, line) for line in found.lines))]
    ]
    for name in dict.fromkeys(one.name for one in found.slices):
        parts = [one for one in found.slices if one.name == name]
        arms = [line.arm for line in found.lines]
        out += [
            "",
            f"{found.headline} by {name}:",
            "",
            _row(["arm", *(f"{one.value} ({one.cases})" for one in parts)]),
        ]
        out += [_row(["---"] * (len(parts) + 1))]
        out += [_row([arm, *(_in_slice(one, arm) for one in parts)]) for arm in arms]
    return "\n".join(out) + "\n"


def _size(found: Report, name: str) -> str:
    return (
        f"{found.asked.get(name, 0)} of {found.protocols[name].get('cases', '?')} cases of {name}"
    )


def _sources_table(found: Report) -> list[str]:
    """The differences to the sources of the prior as Markdown; empty where none was measured
    alone."""
    lines = [line for line in found.lines if line.sources]
    names = [name for name in STANDALONE if any(name in line.sources for line in lines)]
    if not names:
        return []
    rows = [
        [
            line.arm,
            *(_with_interval(line.sources[name]) if name in line.sources else "" for name in names),
        ]
        for line in lines
    ]
    header = ["arm", *(f"− {name}" for name in names)]
    weights = found.manifest["settings"]["retrieve"]
    configured = ", ".join(f"{name} {weights[name]:g}" for name in SOURCES)
    told = (
        f"{found.headline} less that of each source of the prior alone (95 %); configured "
        f"weights: {configured}."
    )
    return [told, "", _row(header), _row(["---"] * len(header)), *map(_row, rows), ""]


def _in_slice(one: Slice, arm: str) -> str:
    if arm not in one.means:
        return "–"
    gap = one.versus.get(arm)
    return _hundred(one.means[arm]) + (
        f" ({_signed(gap.difference)}{'*' if gap.clear else ''})" if gap else ""
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def notes(found: Report) -> list[str]:
    """What a reader must know before believing a figure."""
    told = []
    for name, made in found.protocols.items():
        size = (
            f"{_size(found, name)}, {made.get('ties', 0)} of all with events tied in the "
            f"case's second"
        )
        told.append(
            f"protocol {made['protocol']}, {size}"
            + "".join(f"; {note}" for note in made.get("notes", []))
        )
    if found.missing:
        told.append(
            f"unfinished: {found.missing} rankings are missing; arms are compared on the cases "
            f"both have"
        )
    told += found.manifest["notes"]
    told += [
        f"flag: {line.arm}: {line.rates['degraded_rate']:.0%} of its rankings were degraded"
        for line in found.lines
        if (line.rates["degraded_rate"] or 0) > DEGRADED
    ]
    told += [f"flag: {line.arm}: {flag}" for line in found.lines for flag in line.flags]
    return told


def write(found: Report, out: Path) -> list[Path]:
    """`report.json`, `leaderboard.csv`, `slices.csv`, `report.md`, `report.html` in the run's
    folder."""
    from eval.page import page

    header, lines = table(found)
    cuts = [["slice", "value", "cases", "arm", found.headline, "difference", "low", "high"]]
    for one in found.slices:
        for arm, mean in one.means.items():
            gap = one.versus.get(arm)
            numbers = [gap.difference, gap.low, gap.high] if gap else ["", "", ""]
            cuts.append(
                [str(cell) for cell in (one.name, one.value, one.cases, arm, mean, *numbers)]
            )
    texts = {
        "report.json": json.dumps(asdict(found), indent=1) + "\n",
        "leaderboard.csv": _csv([header, *lines]),
        "slices.csv": _csv(cuts),
        "report.md": markdown(found),
        "report.html": page(found),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def _csv(lines: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
