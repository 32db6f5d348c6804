"""What a run shows: a leaderboard with intervals, slices and flags, folded from its rows."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval import metrics, stats
from eval.metrics import metric
from eval.results import ALONE, CEILING, FLOOR, CaseKey, Results, is_bound
from eval.rows import RunRow
from eval.suite import STANDALONE, sibling
from service.errors import BadRequest

TOO_GOOD = 0.95
"""An arm that reaches more than this share of the oracle is flagged: no honest ranking does."""
FEW = 5
"""A slice of fewer cases is not shown."""
RATES = (
    "valid_rate",
    "repair_rate",
    "degraded_rate",
    "grounded_rate",
    "position_bias",
    "order_stability",
    "sensitivity",
    "seconds_p50",
    "seconds_p95",
    "tokens",
    "cost",
)

Pairs = list[tuple[RunRow, RunRow]]


@dataclass(frozen=True)
class ArmLine:
    """One arm. `baseline`: the arm of the same settings and data that it is compared with.
    `values`: the mean of each metric.

    `interval`: the 95 % interval of the first metric. `versus`: the first metric's difference to
    the baseline; `holm`: the p-value of that difference, adjusted for the number of arms looked at;
    `also`: the difference to the suite's second baseline. `rates`: operational figures, None where
    there is none. `sources`: the first metric less that of each source of the arm's prior alone, by
    the source's name; empty for a source."""

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
    """Cases that have `value` for `name`. `means`: of the first metric, by arm; `versus`: its
    difference to the arm's baseline."""

    name: str
    value: str
    cases: int
    means: dict[str, float]
    versus: dict[str, stats.Paired]


@dataclass(frozen=True)
class Report:
    """`title`, `about`: the suite's own words. `headline`: the metric that the intervals are of.
    `protocols`: what each case folder says of itself; `missing`: how many rankings the run still
    lacks; `asked`: how many cases of each folder the baseline has."""

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


# ── the fold ──────────────────────────────────────────────────────────────────────────────────────


def report(out: Path, by: Sequence[str] = ()) -> Report:
    """Folds the rows of the run in `out` into a report. `by`: attributes of users to slice by,
    beside history and target. Raises `BadRequest` if `out` holds no run that can be scored, or if
    nobody declares an attribute."""
    results = Results(out)
    suite = results.manifest["suite"]
    headline = results.names[0]
    lines = _lines(results)
    lines.sort(key=lambda line: (-line.values[headline], line.arm))
    asked = {key for arm in results.rows if results.is_baseline(arm) for key in results.rows[arm]}
    return Report(
        title=suite["title"] or f"Who ranks best? {headline}, against {results.baseline}",
        about=suite["about"].strip(),
        headline=headline,
        baseline=results.baseline,
        lines=lines,
        slices=_slices(results, by),
        protocols={name: _read_protocol(folder) for name, folder in results.folders.items()},
        manifest=results.manifest,
        missing=results.missing,
        asked=dict(Counter(name for name, _ in asked)),
    )


def _lines(results: Results) -> list[ArmLine]:
    """Returns a line for each arm, sorted by the arm's name, with comparisons and flags."""
    arms = sorted(results.rows)
    rivals = [arm for arm in arms if not is_bound(arm) and not results.is_baseline(arm)]
    floors = [arm for arm in arms if arm.partition(" ")[0] == FLOOR or arm.startswith(ALONE)]
    versus = {}
    for arm in [*rivals, *floors]:
        gap = results.difference(arm, results.baseline_of(arm), looks=max(1, len(rivals)))
        if gap is not None:
            versus[arm] = gap
    adjusted = stats.holm({arm: versus[arm].p for arm in rivals if arm in versus})
    leaks = _read_json(results.out / "leaks.json", {})
    lines = []
    for arm in arms:
        line = replace(_line(results, arm), versus=versus.get(arm), holm=adjusted.get(arm))
        sources = _source_gaps(results, arm)
        below = [
            f"below {source}, a source of its prior: {gap}"
            for source, gap in sources.items()
            if gap.high < 0
        ]
        flags = [*filter(None, [leaks.get(arm)]), *line.flags, *below]
        lines.append(replace(line, also=_also(results, arm), sources=sources, flags=flags))
    return lines


def _line(results: Results, arm: str) -> ArmLine:
    """The line of an arm by itself, without comparisons."""
    cases = results.rows[arm]
    keys = list(cases)
    headline = results.names[0]
    values = {name: float(np.mean(results.column(arm, keys, name))) for name in results.names}
    depth = metric(headline).k or 10
    catalogue = sum(len(results.data[name].items) for name in {name for name, _ in keys})
    values[f"coverage@{depth}"] = metrics.coverage(
        [repeats[0].items for repeats in cases.values()], depth, catalogue
    )
    flags: list[str] = []
    rates: dict[str, float | None] = dict.fromkeys(RATES)
    if not is_bound(arm):
        ceiling = results.scores.get(sibling(CEILING, arm), {})
        best = [ceiling[key][0] for key in keys if key in ceiling]
        reachable = float(np.mean(best)) if best else 0.0
        if values[headline] > TOO_GOOD * reachable > 0:
            flags.append(
                f"reaches {values[headline] / reachable:.0%} of the oracle: look for a leak"
            )
        every = [row for repeats in cases.values() for row in repeats]
        rates = _rates(every, results.probes.get(arm, {}))
    return ArmLine(
        arm=arm,
        baseline=results.baseline_of(arm),
        cases=len(cases),
        values=values,
        interval=stats.interval(results.column(arm, keys), results.seed),
        versus=None,
        also=None,
        holm=None,
        rates=rates,
        flags=flags,
    )


def _also(results: Results, arm: str) -> stats.Paired | None:
    """Returns the arm's difference to the suite's second baseline; None if there is none to compare
    with."""
    second = results.manifest["suite"].get("beside")
    if second is None or arm == second or arm.partition(" ")[0] == CEILING:
        return None
    return results.difference(arm, second)


def _source_gaps(results: Results, arm: str) -> dict[str, stats.Paired]:
    """An arm's differences to the sources of its prior, by the source's name."""
    if is_bound(arm) or arm.partition(" ")[0] in STANDALONE:
        return {}
    gaps = {source: results.difference(arm, sibling(source, arm)) for source in STANDALONE}
    return {source: gap for source, gap in gaps.items() if gap is not None}


def _read_protocol(folder: Path) -> dict[str, Any]:
    return _read_json(folder / "protocol.json", {"protocol": "unknown"})


def _read_json(file: Path, default: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else default
    return content


# ── rates ─────────────────────────────────────────────────────────────────────────────────────────


def _rates(
    every: Sequence[RunRow], probes: Mapping[str, Mapping[str, RunRow]]
) -> dict[str, float | None]:
    """Returns the figures that `RATES` names: shares in [0, 1], correlations in [−1, 1], seconds,
    mean tokens a ranking, US dollars in all; None where there is nothing to measure."""
    seconds = [row.seconds for row in every]
    costs = [row.cost for row in every if row.cost is not None]
    both = _both_ways(probes, every)
    return {
        "valid_rate": _mean(
            not row.error and len(set(row.items)) == len(row.items) > 0 for row in every
        ),
        "repair_rate": _mean(row.repairs > 0 for row in every if row.model is not None),
        "degraded_rate": _mean(row.degraded is not None for row in every),
        "grounded_rate": _mean(row.grounded for row in every if row.grounded is not None),
        "position_bias": _mean(_position_bias(forward, backward) for forward, backward in both),
        "order_stability": _mean(
            metrics.kendall(forward.order, backward.order) for forward, backward in both
        ),
        "sensitivity": _mean(own.order != other.order for own, other in _for_another(probes)),
        "seconds_p50": float(np.quantile(seconds, 0.5)) if seconds else None,
        "seconds_p95": float(np.quantile(seconds, 0.95)) if seconds else None,
        "tokens": _mean(sum(row.tokens) for row in every),
        "cost": sum(costs) if costs else None,
    }


def _mean(values: Iterable[float]) -> float | None:
    numbers = [float(value) for value in values]
    return sum(numbers) / len(numbers) if numbers else None


def _both_ways(probes: Mapping[str, Mapping[str, RunRow]], every: Sequence[RunRow]) -> Pairs:
    """Returns pairs of rows for the same window of a case: shown in prior order, and reversed."""
    plain = {row.case: row for row in every if row.order and row.repeat == 0}
    pairs = []
    for case, answers in probes.items():
        if case in plain and "reversed" in answers:
            forward, backward = plain[case], answers["reversed"]
            if set(forward.order) == set(backward.order):
                pairs.append((forward, backward))
    return pairs


def _position_bias(forward: RunRow, backward: RunRow) -> float:
    """Spearman's ρ of slot and rank, averaged over an ordering and its reverse: what the items
    themselves explain cancels out. 1: the model repeats the order it is shown; 0: the slot says
    nothing; −1: it reverses it."""
    ahead = metrics.spearman(forward.window, forward.order)
    behind = metrics.spearman(forward.window[::-1], backward.order)
    return (ahead + behind) / 2


def _for_another(probes: Mapping[str, Mapping[str, RunRow]]) -> Pairs:
    """Returns pairs of rows for the same candidates in the same order: one for the case's user, one
    for another user."""
    pairs = []
    for answers in probes.values():
        if {"own", "other"} <= answers.keys():
            own, other = answers["own"], answers["other"]
            if own.order and other.order:
                pairs.append((own, other))
    return pairs


# ── slices ────────────────────────────────────────────────────────────────────────────────────────


def _slices(results: Results, by: Sequence[str]) -> list[Slice]:
    """Every arm's headline metric, and its difference to the baseline, on parts of the cases."""
    slices = []
    for (name, value), keys in sorted(_groups(results, by).items()):
        means, versus = {}, {}
        for arm in results.scores:
            shared = [key for key in keys if key in results.scores[arm]]
            if len(shared) < FEW:
                continue
            means[arm] = float(np.mean(results.column(arm, shared)))
            baseline = results.baseline_of(arm)
            both = [key for key in shared if key in results.scores[baseline]]
            if not is_bound(arm) and arm != baseline and len(both) >= FEW:
                versus[arm] = stats.paired(
                    results.column(arm, both),
                    results.column(baseline, both),
                    results.seed,
                    resamples=2_000,
                )
        if means:
            slices.append(Slice(name, value, len(keys), means, versus))
    return slices


def _groups(results: Results, by: Sequence[str]) -> dict[tuple[str, str], list[CaseKey]]:
    """Returns the keys of the cases that a baseline has, grouped by name and value of the cases'
    slices and of the attributes in `by` of their users. Raises `BadRequest` for an attribute that
    nobody declares."""
    groups: dict[tuple[str, str], list[CaseKey]] = defaultdict(list)
    baselines = [arm for arm in results.scores if results.is_baseline(arm)]
    for name, data in results.data.items():
        declared = {user.user_id: user.attributes for user in data.users}
        for case in data.cases:
            key = name, case.case_id
            if not any(key in results.scores[arm] for arm in baselines):
                continue
            for label, value in case.slices.items():
                groups[label, value].append(key)
            attributes = declared.get(case.user_id, {})
            for label in by:
                if attributes.get(label) is not None:
                    groups[label, str(attributes[label])].append(key)
    unknown = set(by) - {label for label, _ in groups}
    if unknown:
        raise BadRequest(
            f"nobody declares {', '.join(sorted(unknown))}: slices are by attributes in users.jsonl"
        )
    return groups


# ── comparing two ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Comparison:
    """Two arms compared. `better`: cases where the first arm gains most, with the values of both
    arms; `worse`: those where it loses most."""

    versus: stats.Paired
    better: list[tuple[str, float, float]]
    worse: list[tuple[str, float, float]]


def compare(
    out: Path, first: str, second: str, name: str | None = None, show: int = 10
) -> Comparison:
    """The paired difference of two arms in a metric (default: the suite's first), and at most
    `show` cases each way. Raises `BadRequest` for an unknown arm or metric, and for arms without a
    common case."""
    results = Results(out)
    for arm in (first, second):
        if arm not in results.scores:
            raise BadRequest(f"no arm {arm!r}; arms: {', '.join(results.scores)}")
    if name is not None:
        name = str(metric(name))
        if name not in results.names:
            measured = ", ".join(results.names)
            raise BadRequest(
                f"{name} was not measured; measured: {measured} (metrics in the suite)"
            )
    keys = results.shared(first, second)
    if not keys:
        raise BadRequest(f"{first} and {second} share no case")
    values = results.column(first, keys, name), results.column(second, keys, name)
    gaps = [(case, a, b) for (_, case), a, b in zip(keys, *values, strict=True)]
    gaps.sort(key=lambda gap: gap[2] - gap[1])
    better = [gap for gap in gaps[:show] if gap[1] > gap[2]]
    worse = [gap for gap in gaps[::-1][:show] if gap[1] < gap[2]]
    return Comparison(stats.paired(*values, results.seed), better, worse)
