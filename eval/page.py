"""The report as one HTML page that needs nothing else: tables, intervals and quality against latency as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment

from eval.report import LEGEND, Line, Report, bound, notes, table, verdict

WIDTH, LEFT, RIGHT, ROW = 860, 250, 70, 26
PLOT_HEIGHT, BELOW = 340, 46


@dataclass(frozen=True)
class Axis:
    """Values to pixels. `ticks`: (pixel, label)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            marks = [nice * 10.0**power for power in powers for nice in (1, 2, 5)]
            return [(self.at(mark), f"{mark:g}") for mark in marks if self.low <= mark <= self.high]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step)
        return [(self.at(n * step), f"{n * step:g}") for n in range(first, math.floor(self.high / step) + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * 0.06
    return low - room, high + room


def _intervals(found: Report) -> dict[str, Any]:
    lines = [line for line in found.lines if not math.isnan(line.interval[0])]
    axis = Axis(*_span([100 * end for line in lines for end in line.interval]), LEFT, WIDTH - RIGHT)
    marks = [
        {
            "name": line.arm,
            "y": 20 + n * ROW,
            "low": axis.at(100 * line.interval[0]),
            "high": axis.at(100 * line.interval[1]),
            "mean": axis.at(100 * line.values[found.headline]),
            "value": f"{100 * line.values[found.headline]:.2f}",
            "kind": _kind(found, line),
        }
        for n, line in enumerate(lines)
    ]
    height = 20 + len(lines) * ROW
    return {"axis": axis, "marks": marks, "height": height, "width": WIDTH, "left": LEFT, "right": WIDTH - RIGHT}


def _latency(found: Report) -> dict[str, Any] | None:
    """Quality against median seconds, on a logarithmic axis; labels that would overlap move down."""
    lines = [line for line in found.lines if not bound(line.arm) and (line.rates["seconds_p50"] or 0) > 0]
    if not lines:
        return None
    seconds = [line.rates["seconds_p50"] or 1 for line in lines]
    across = Axis(min(seconds) / 1.6, max(seconds) * 2.5, 60, WIDTH - 20, log=True)
    up = Axis(*_span([100 * line.values[found.headline] for line in lines]), PLOT_HEIGHT, 16)
    marks: list[dict[str, Any]] = []
    taken: list[tuple[float, float]] = []
    points = [(across.at(line.rates["seconds_p50"] or 1), up.at(100 * line.values[found.headline])) for line in lines]
    for line in sorted(lines, key=lambda line: -line.values[found.headline]):
        x, y = across.at(line.rates["seconds_p50"] or 1), up.at(100 * line.values[found.headline])
        label = y
        while any(abs(label - other) < 15 and abs(x - place) < 300 for place, other in taken):
            label += 15
        taken.append((x, label))
        flip = x > WIDTH - 260 or any(0 < other - x < 60 and abs(label - height) < 12 for other, height in points)
        marks.append({"name": line.arm, "x": x, "y": y, "label": label, "flip": flip, "kind": _kind(found, line)})
    return {"across": across, "up": up, "marks": marks, "width": WIDTH, "height": PLOT_HEIGHT, "below": PLOT_HEIGHT + BELOW}


def _kind(found: Report, line: Line) -> str:
    return "bound" if bound(line.arm) else "base" if line.arm == line.baseline else "arm"


def page(found: Report) -> str:
    """A page without scripts, fonts or pictures from elsewhere."""
    header, lines = table(found)
    slices: dict[str, list[Any]] = {}
    for one in found.slices:
        slices.setdefault(one.name, []).append(one)
    return _PAGE.render(
        title=found.title,
        about=found.about,
        legend=LEGEND,
        headline=found.headline,
        baseline=found.baseline,
        header=header,
        lines=lines,
        arms=[line.arm for line in found.lines],
        notes=notes(found),
        verdicts=[told for line in found.lines if (told := verdict(found, line))],
        intervals=_intervals(found),
        latency=_latency(found),
        slices=slices,
        manifest=found.manifest,
    )


_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#1d2530, #e6e9ee); --soft: light-dark(#6b7684, #97a1ad);
  --line: light-dark(#dde2e8, #39424d); --arm: light-dark(#1f6feb, #6cb0ff); --base: light-dark(#b35900, #f0a050); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: light-dark(#fff, #14191f);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: light-dark(#fff, #14191f); }
th { color: var(--soft); font-weight: 600; }
tr.base td { color: var(--base); }
svg { max-width: 100%; height: auto; display: block; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--line); } .arm { stroke: var(--arm); fill: var(--arm); } .base { stroke: var(--base); fill: var(--base); }
.bound { stroke: var(--soft); fill: var(--soft); }
li { margin: .2rem 0; } details { margin-top: 2rem; } pre { overflow-x: auto; font-size: 12px; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if about %}<p>{{ about }}</p>{% endif %}
<ul>{% for told in verdicts %}<li>{{ told }}</li>{% endfor %}{% for told in notes %}<li>{{ told }}</li>{% endfor %}</ul>
<h2>{{ headline }} × 100 with 95 % intervals</h2>
<svg viewBox="0 0 {{ intervals.width }} {{ intervals.height + 34 }}" role="img" aria-label="{{ headline }} by arm">
{% for x, label in intervals.axis.ticks %}
<line class="grid" x1="{{ x }}" x2="{{ x }}" y1="6" y2="{{ intervals.height }}"/>
<text class="tick" x="{{ x }}" y="{{ intervals.height + 20 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
{% for mark in intervals.marks %}
<text x="{{ intervals.left - 12 }}" y="{{ mark.y + 4 }}" text-anchor="end">{{ mark.name if mark.name|length < 36 else mark.name[:34] ~ "…" }}<title>{{ mark.name }}</title></text>
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
<circle class="{{ mark.kind }}" cx="{{ mark.x }}" cy="{{ mark.y }}" r="5"/>
<text x="{{ mark.x - 10 if mark.flip else mark.x + 10 }}" y="{{ mark.label + 4 }}" text-anchor="{{ 'end' if mark.flip else 'start' }}">{{ mark.name }}</text>
{% endfor %}
</svg>
{% endif %}
<h2>Leaderboard</h2>
<p>{{ legend }}</p>
<div class="wide"><table>
<tr>{% for name in header %}<th>{{ name }}</th>{% endfor %}</tr>
{% for line in lines %}
<tr{% if line[0] == baseline %} class="base"{% endif %}>{% for cell in line %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% for name, parts in slices.items() %}
<h2>{{ headline }} by {{ name }}</h2>
<div class="wide"><table>
<tr><th>arm</th>{% for one in parts %}<th>{{ one.value }} ({{ one.cases }})</th>{% endfor %}</tr>
{% for arm in arms %}
<tr{% if arm == baseline %} class="base"{% endif %}><td>{{ arm }}</td>{% for one in parts %}<td>{% if arm in one.means %}{{ "%.2f"|format(100 * one.means[arm]) }}{% if arm in one.versus %} ({{ "%+.2f"|format(100 * one.versus[arm].difference) }}{{ "*" if one.versus[arm].clear }}){% endif %}{% else %}–{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
{% if slices %}<p>In brackets the difference to {{ baseline }}; * where its 95 % interval leaves out zero, not adjusted for the number of slices.</p>{% endif %}
<details><summary>What was run</summary><pre>{{ manifest|tojson(indent=1) }}</pre></details>
</body>
</html>
""")
