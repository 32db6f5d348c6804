"""A report in words and cells, as the terminal, Markdown and the page share them."""

import math
from collections.abc import Sequence

from eval import stats
from eval.report import ArmLine, Report
from eval.results import is_bound
from eval.stats import signed
from service.config import WeightByHistory

LEGEND = (
    "Metrics × 100 (novelty in bits; p and rates as they are). “could see”: the smallest true "
    "difference that so many cases "
    "show in 8 of 10 experiments. “shuffled” and “oracle” reorder what a model would see of the "
    "prior's candidates: what no "
    "information and full information would reach."
)
DEGRADED = 0.05
"""An arm is flagged if more than this share of its rankings were degraded."""


def table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Returns the leaderboard as text: header and rows. Metrics are times 100, except novelty;
    intervals and differences are those of the first metric."""
    names = list(report.lines[0].values)
    rates = [
        name
        for name in report.lines[0].rates
        if any(line.rates[name] is not None for line in report.lines)
    ]
    second = report.manifest["suite"].get("beside")
    header = [
        "arm",
        "cases",
        report.headline,
        "95 %",
        f"− {report.baseline}",
        "95 %",
        "p (Holm)",
        "could see",
        *([f"− {second}", "95 %"] if second else []),
        *names[1:],
        *rates,
    ]
    return header, [_cells(line, names, rates, second=bool(second)) for line in report.lines]


def _cells(line: ArmLine, names: Sequence[str], rates: Sequence[str], *, second: bool) -> list[str]:
    low, high = line.interval
    cells = [line.arm, str(line.cases), hundred(line.values[names[0]])]
    cells += [f"{hundred(low)}…{hundred(high)}", *_gap_cells(line.versus)]
    cells.append("" if line.versus is None or line.holm is None else _p(line.holm))
    cells.append("" if line.versus is None else f"{100 * line.versus.seen:.2f}")
    if second:
        cells += _gap_cells(line.also)
    for name in names[1:]:
        value = line.values[name]
        cells.append(f"{value:.2f}" if name.startswith("novelty") else hundred(value))
    return cells + [_rate(name, line.rates[name]) for name in rates]


def _gap_cells(gap: stats.Paired | None) -> list[str]:
    """Returns two cells: the difference × 100 and its interval; both empty for None."""
    if gap is None:
        return ["", ""]
    return [signed(gap.difference), f"{signed(gap.low)}…{signed(gap.high)}"]


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def hundred(value: float) -> str:
    """Formats `value` times 100, with two decimals; "" for NaN."""
    return "" if math.isnan(value) else f"{100 * value:.2f}"


def _rate(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name.endswith("_rate"):
        return f"{value:.1%}"
    digits = {"tokens": 0, "cost": 4}.get(name, 2)
    return f"{value:.{digits}f}"


def verdict(report: Report, line: ArmLine) -> str:
    """One sentence on an arm against the baseline, or "" where there is nothing to say."""
    gap = line.versus
    if gap is None or is_bound(line.arm):
        return ""
    if line.holm is not None and line.holm < 0.05 and gap.clear:
        word = "better" if gap.difference > 0 else "worse"
        return (
            f"{line.arm} is {word} than {line.baseline}: {signed(gap.difference)} {report.headline}"
        )
    if gap.difference == gap.low == gap.high == 0:
        return f"{line.arm}: no difference to {line.baseline}"
    return (
        f"{line.arm}: no difference to {line.baseline} is shown; {gap.cases} cases could "
        f"have shown {100 * gap.seen:.2f}"
    )


def notes(report: Report) -> list[str]:
    """Returns what a reader must know before believing a figure: protocols, missing rankings, the
    run's notes, and flags on arms."""
    texts = []
    for name, protocol in report.protocols.items():
        facts = [
            f"protocol {protocol['protocol']}, {size(report, name)}, {protocol.get('ties', 0)} of "
            f"all with events tied in the case's second",
            *protocol.get("notes", []),
        ]
        texts.append("; ".join(facts))
    if report.missing:
        texts.append(
            f"unfinished: {report.missing} rankings are missing; arms are compared on the cases "
            f"both have"
        )
    texts += report.manifest["notes"]
    for line in report.lines:
        degraded = line.rates["degraded_rate"] or 0
        if degraded > DEGRADED:
            texts.append(f"flag: {line.arm}: {degraded:.0%} of its rankings were degraded")
    for line in report.lines:
        texts += [f"flag: {line.arm}: {flag}" for flag in line.flags]
    return texts


def size(report: Report, name: str) -> str:
    """Says how many cases of the folder `name` were asked, as `200 of 943 cases of films`."""
    cases = report.protocols[name].get("cases", "?")
    return f"{report.asked.get(name, 0)} of {cases} cases of {name}"


def weight_in_words(weight: WeightByHistory) -> str:
    """Formats a weight: one number, or four with slashes between them, by kind of history."""
    return "/".join(f"{part:g}" for part in (weight if isinstance(weight, tuple) else (weight,)))
