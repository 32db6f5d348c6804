"""The report as one HTML page that needs nothing else: tables, intervals and quality against
latency as pictures.

Lengths are pixels of a picture `WIDTH` wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment

from eval.leaderboard import LEGEND, notes, table, verdict
from eval.report import RATES, ArmLine, Report
from eval.results import is_bound

WIDTH, LEFT, RIGHT, ROW = 860, 250, 70, 26
PLOT_TOP, PLOT_HEIGHT, BELOW = 16, 340, 46
DOT = 5
"""The radius of a dot."""
CHARACTER, LINE_HEIGHT = 8, 15
"""The width of a label's character, and the height of a label."""
LONGEST_LABEL = 34
"""The most characters of an arm's name that a label shows."""


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels. `ticks`: pixel and label of each mark."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            marks = [nice * 10.0**power for power in powers for nice in (1, 2, 5)]
            return [(self.at(mark), f"{mark:g}") for mark in marks if self.low <= mark <= self.high]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step)
        return [
            (self.at(n * step), f"{n * step:g}")
            for n in range(first, math.floor(self.high / step) + 1)
        ]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough)


def _with_margin(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * 0.06
    return low - room, high + room


def _intervals(report: Report) -> dict[str, Any]:
    lines = [line for line in report.lines if not math.isnan(line.interval[0])]
    axis = Axis(
        *_with_margin([100 * end for line in lines for end in line.interval]), LEFT, WIDTH - RIGHT
    )
    marks = [
        {
            "name": line.arm,
            "label": _shorten(line.arm),
            "y": 20 + n * ROW,
            "low": axis.at(100 * line.interval[0]),
            "high": axis.at(100 * line.interval[1]),
            "mean": axis.at(100 * line.values[report.headline]),
            "value": f"{100 * line.values[report.headline]:.2f}",
            "kind": _css_class(line),
        }
        for n, line in enumerate(lines)
    ]
    height = 20 + len(lines) * ROW
    return {
        "axis": axis,
        "marks": marks,
        "height": height,
        "width": WIDTH,
        "left": LEFT,
        "right": WIDTH - RIGHT,
    }


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not beside and self.top < other.bottom and other.top < self.bottom

    def inside(self, other: Box) -> bool:
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


PLOT = Box(0, 8, WIDTH, PLOT_HEIGHT - 2)
"""Where dots and labels of quality against latency may stand."""


@dataclass(frozen=True)
class Dot:
    """An arm's dot in the picture. `x`, `y`: where it is drawn; `due`: the `y` of its value, where
    it would stand if no other dot were in the way."""

    x: float
    y: float
    due: float

    @property
    def box(self) -> Box:
        return Box(self.x - DOT, self.y - DOT, self.x + DOT, self.y + DOT)


@dataclass(frozen=True)
class Label:
    """An arm's name beside its dot. `x`: the end of the text that is next to the dot; `y`: the
    middle of its height; `flip`: the text is left of the dot."""

    text: str
    x: float
    y: float
    flip: bool

    @property
    def box(self) -> Box:
        width = CHARACTER * len(self.text)
        left = self.x - width if self.flip else self.x
        return Box(left, self.y - LINE_HEIGHT / 2, left + width, self.y + LINE_HEIGHT / 2)


def _latency(report: Report) -> dict[str, Any] | None:
    """Returns the picture of quality against median seconds, on a logarithmic axis; None if no arm
    took time. Dots and labels that would cover others move up or down, and a line leads to where
    they belong."""
    timed = [line for line in report.lines if not is_bound(line.arm)]
    lines = [line for line in timed if (line.rates["seconds_p50"] or 0) > 0]
    if not lines:
        return None
    seconds = [line.rates["seconds_p50"] or 1 for line in lines]
    across = Axis(min(seconds) / 1.6, max(seconds) * 2.5, 60, WIDTH - 20, log=True)
    up = Axis(
        *_with_margin([100 * line.values[report.headline] for line in lines]), PLOT_HEIGHT, PLOT_TOP
    )
    dots: list[Dot] = []
    for line, time in zip(lines, seconds, strict=True):
        dots.append(_place_dot(across.at(time), up.at(100 * line.values[report.headline]), dots))
    taken = [dot.box for dot in dots]
    marks: list[dict[str, Any]] = []
    for line, dot in zip(lines, dots, strict=True):
        label = _place_label(dot, _shorten(line.arm), taken)
        taken.append(label.box)
        marks.append({"name": line.arm, "dot": dot, "label": label, "kind": _css_class(line)})
    return {
        "across": across,
        "up": up,
        "marks": marks,
        "width": WIDTH,
        "height": PLOT_HEIGHT,
        "below": PLOT_HEIGHT + BELOW,
    }


def _place_dot(x: float, y: float, others: Sequence[Dot]) -> Dot:
    """Puts a dot as near to `y` as it can be without covering others."""
    for shift in sorted(range(-PLOT_HEIGHT, PLOT_HEIGHT), key=abs):
        dot = Dot(x, y + shift, y)
        if dot.box.inside(PLOT) and all(
            math.dist((x, dot.y), (other.x, other.y)) >= 2 * DOT + 2 for other in others
        ):
            return dot
    return Dot(x, y, y)


def _place_label(dot: Dot, text: str, taken: Sequence[Box]) -> Label:
    """Puts a label right or left of its dot, as near to its height as it can be without covering a
    box that is taken."""
    for shift in sorted(range(-PLOT_HEIGHT, PLOT_HEIGHT, 4), key=abs):
        for flip in (False, True):
            label = Label(text, dot.x + (-2 if flip else 2) * DOT, dot.y + shift, flip)
            if label.box.inside(PLOT) and not any(map(label.box.meets, taken)):
                return label
    return Label(text, dot.x + 2 * DOT, dot.y, flip=False)


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"


def _css_class(line: ArmLine) -> str:
    return "bound" if is_bound(line.arm) else "base" if line.arm == line.baseline else "arm"


@dataclass(frozen=True)
class Folder:
    """A folder of cases. `data`: the name of the data that the cases were made from, if it is
    known; `cases`: how many of the cases were asked."""

    name: str
    data: str
    protocol: str
    cases: int


def _folders(report: Report) -> list[Folder]:
    return [
        Folder(
            name=name,
            data=Path(protocol.get("data", "")).name,
            protocol=protocol["protocol"],
            cases=report.asked.get(name, 0),
        )
        for name, protocol in report.protocols.items()
    ]


def _tables(report: Report) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Cuts the leaderboard into tables no wider than a screen, each with the arms' names. Returns
    header and rows of each, by title."""
    header, rows = table(report)
    rates = [name for name in header if name in RATES]
    first_rate = len(header) - len(rates)
    first_metric = first_rate - len(report.lines[0].values) + 1
    parts = {
        "Leaderboard": range(first_metric),
        "Other metrics": [0, *range(first_metric, first_rate)],
        "How it went": [0, *range(first_rate, len(header))],
    }
    return {
        title: (
            [header[column] for column in columns],
            [[row[column] for column in columns] for row in rows],
        )
        for title, columns in parts.items()
        if len(columns) > 1
    }


def page(report: Report) -> str:
    """Renders a page that loads no script, font or picture from elsewhere."""
    slices: dict[str, list[Any]] = {}
    for subset in report.slices:
        slices.setdefault(subset.name, []).append(subset)
    tables, begun_at = _tables(report), report.manifest.get("begun_at")
    return _PAGE.render(
        title=report.title,
        about=report.about,
        folders=_folders(report),
        begun_at=datetime.fromisoformat(begun_at) if begun_at else None,
        version=report.manifest.get("versions", {}).get("whyrank"),
        legend=LEGEND,
        headline=report.headline,
        baseline=report.baseline,
        leaderboard=tables.pop("Leaderboard"),
        tables=tables,
        arms=[line.arm for line in report.lines],
        notes=notes(report),
        verdicts=[*filter(None, (verdict(report, line) for line in report.lines))],
        intervals=_intervals(report),
        latency=_latency(report),
        slices=slices,
        manifest=report.manifest,
        radius=DOT,
    )


_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
{% macro board(header, rows) %}
<div class="scroll"><table>
<thead><tr>{% for name in header %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr{% if row[0] == baseline %} class="base"{% endif %}>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }} ({{ folders|map(attribute="name")|join(", ") }})</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#1d2530, #e6e9ee); --soft: light-dark(#5c6773, #97a1ad);
  --paper: light-dark(#fff, #14191f); --line: light-dark(#dde2e8, #39424d); --arm: light-dark(#1f6feb, #6cb0ff);
  --base: light-dark(#b35900, #f0a050); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 76rem; margin: 1.2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 1.8rem 0 .4rem; }
p { margin: .4rem 0; } .facts { color: var(--soft); } .facts b { color: var(--ink); }
.scroll { overflow: auto; max-height: 70vh; }
table { border-collapse: separate; border-spacing: 0; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; background: var(--paper); position: sticky; top: 0; z-index: 1; vertical-align: bottom; }
th, th:first-child, td:first-child { white-space: normal; overflow-wrap: anywhere; }
th:first-child, td:first-child { text-align: left; min-width: 9rem; position: sticky; left: 0; background: var(--paper); }
th:first-child { z-index: 2; }
tr.base td { color: var(--base); }
svg { width: 100%; max-width: 56rem; height: auto; display: block; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--line); } .lead { stroke: var(--soft); stroke-width: .7; }
.arm { stroke: var(--arm); fill: var(--arm); } .base { stroke: var(--base); fill: var(--base); }
.bound { stroke: var(--soft); fill: var(--soft); }
ul { margin: .4rem 0; padding-left: 1.2rem; } li { margin: .1rem 0; }
details { margin-top: 2rem; } pre { overflow: auto; max-height: 70vh; font-size: 12px; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="facts">
{% for folder in folders %}
<b>{{ folder.data or folder.name }}</b>: {{ folder.cases }} cases (folder {{ folder.name }}, protocol {{ folder.protocol }})
{%- if not loop.last %}; {% endif %}
{% endfor %}
{% if begun_at %} · run on <time datetime="{{ begun_at.isoformat() }}">{{ begun_at.day }} {{ begun_at.strftime("%B %Y, %H:%M UTC") }}</time>{% endif %}
{% if version %} · whyrank {{ version }}{% endif %}

</p>
{% if about %}<p>{{ about }}</p>{% endif %}
<h2>Leaderboard</h2>
{{ board(*leaderboard) }}
<p>{{ legend }}</p>
<ul>{% for text in verdicts %}<li>{{ text }}</li>{% endfor %}{% for text in notes %}<li>{{ text }}</li>{% endfor %}</ul>
<h2>{{ headline }} × 100 with 95 % intervals</h2>
<svg viewBox="0 0 {{ intervals.width }} {{ intervals.height + 34 }}" role="img" aria-label="{{ headline }} by arm">
{% for x, label in intervals.axis.ticks %}
<line class="grid" x1="{{ x }}" x2="{{ x }}" y1="6" y2="{{ intervals.height }}"/>
<text class="tick" x="{{ x }}" y="{{ intervals.height + 20 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
{% for mark in intervals.marks %}
<text x="{{ intervals.left - 12 }}" y="{{ mark.y + 4 }}" text-anchor="end">{{ mark.label }}<title>{{ mark.name }}</title></text>
<line class="{{ mark.kind }}" x1="{{ mark.low }}" x2="{{ mark.high }}" y1="{{ mark.y }}" y2="{{ mark.y }}" stroke-width="2"/>
<circle class="{{ mark.kind }}" cx="{{ mark.mean }}" cy="{{ mark.y }}" r="4.5"/>
<text class="tick" x="{{ intervals.right + 12 }}" y="{{ mark.y + 4 }}">{{ mark.value }}</text>
{% endfor %}
</svg>
{% if latency %}
<h2>{{ headline }} × 100 against median seconds a ranking</h2>
<svg viewBox="0 0 {{ latency.width }} {{ latency.below }}" role="img" aria-label="{{ headline }} against latency">
{% for x, label in latency.across.ticks %}
<line class="grid" x1="{{ x }}" x2="{{ x }}" y1="10" y2="{{ latency.height }}"/>
<text class="tick" x="{{ x }}" y="{{ latency.height + 18 }}" text-anchor="middle">{{ label }} s</text>
{% endfor %}
{% for y, label in latency.up.ticks %}
<line class="grid" x1="60" x2="{{ latency.width - 20 }}" y1="{{ y }}" y2="{{ y }}"/>
<text class="tick" x="52" y="{{ y + 4 }}" text-anchor="end">{{ label }}</text>
{% endfor %}
{% for mark in latency.marks %}
{% set dot, label = mark.dot, mark.label %}
{% if dot.y != dot.due %}<line class="lead" x1="{{ dot.x }}" x2="{{ dot.x }}" y1="{{ dot.due }}" y2="{{ dot.y }}"/>{% endif %}
{% if label.y != dot.y %}<line class="lead" x1="{{ dot.x }}" x2="{{ label.x }}" y1="{{ dot.y }}" y2="{{ label.y }}"/>{% endif %}
{% endfor %}
{% for mark in latency.marks %}
{% set dot, label = mark.dot, mark.label %}
<circle class="{{ mark.kind }}" cx="{{ dot.x }}" cy="{{ dot.y }}" r="{{ radius }}"/>
<text x="{{ label.x }}" y="{{ label.y + 4 }}" text-anchor="{{ 'end' if label.flip else 'start' }}">{{ label.text }}<title>{{ mark.name }}</title></text>
{% endfor %}
</svg>
{% endif %}
{% for title, (header, rows) in tables.items() %}
<h2>{{ title }}</h2>
{{ board(header, rows) }}
{% endfor %}
{% for name, parts in slices.items() %}
<h2>{{ headline }} by {{ name }}</h2>
<div class="scroll"><table>
<thead><tr><th>arm</th>{% for subset in parts %}<th>{{ subset.value }} ({{ subset.cases }})</th>{% endfor %}</tr></thead>
<tbody>
{% for arm in arms %}
<tr{% if arm == baseline %} class="base"{% endif %}><td>{{ arm }}</td>{% for subset in parts %}<td>{% if arm in subset.means %}{{ "%.2f"|format(100 * subset.means[arm]) }}{% if arm in subset.versus %} ({{ "%+.2f"|format(100 * subset.versus[arm].difference) }}{{ "*" if subset.versus[arm].clear }}){% endif %}{% else %}–{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endfor %}
{% if slices %}<p>In brackets the difference to {{ baseline }}; * where its 95 % interval leaves out zero, not adjusted for the number of slices.</p>{% endif %}
<details><summary>What was run</summary><pre>{{ manifest|tojson(indent=1) }}</pre></details>
</body>
</html>
""")
