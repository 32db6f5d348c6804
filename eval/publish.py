"""The files of a report: JSON, CSV, Markdown and one HTML page."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from eval.leaderboard import LEGEND, hundred, notes, size, table, verdict, weight_in_words
from eval.page import page
from eval.report import Report, Slice
from eval.stats import signed
from eval.suite import STANDALONE
from service.config import SOURCES, Retrieve


def write(report: Report, out: Path) -> list[Path]:
    """Writes `report.json`, `leaderboard.csv`, `slices.csv`, `report.md` and `report.html` into the
    folder `out`; returns their paths."""
    header, lines = table(report)
    texts = {
        "report.json": json.dumps(asdict(report), indent=1) + "\n",
        "leaderboard.csv": _csv([header, *lines]),
        "slices.csv": _csv(_slices_table(report)),
        "report.md": markdown(report),
        "report.html": page(report),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def _slices_table(report: Report) -> list[list[str]]:
    lines = [["slice", "value", "cases", "arm", report.headline, "difference", "low", "high"]]
    for subset in report.slices:
        for arm, mean in subset.means.items():
            gap = subset.versus.get(arm)
            numbers = [gap.difference, gap.low, gap.high] if gap else ["", "", ""]
            lines.append([subset.name, subset.value, str(subset.cases), arm, str(mean)])
            lines[-1] += map(str, numbers)
    return lines


def _csv(lines: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


# ── Markdown ──────────────────────────────────────────────────────────────────────────────────────


def markdown(report: Report) -> str:
    sizes = ", ".join(size(report, name) for name in report.protocols)
    lines = [f"# {report.title}", ""]
    lines += [report.about, ""] if report.about else []
    lines += [f"Asked: {sizes}.", "", LEGEND, "", *_board(*table(report)), ""]
    lines += _sources(report)
    verdicts = [verdict(report, line) for line in report.lines]
    lines += [f"- {text}" for text in [*notes(report), *filter(None, verdicts)]]
    for name in dict.fromkeys(subset.name for subset in report.slices):
        parts = [subset for subset in report.slices if subset.name == name]
        header = ["arm", *(f"{subset.value} ({subset.cases})" for subset in parts)]
        cells = [
            [line.arm, *(_in_slice(subset, line.arm) for subset in parts)] for line in report.lines
        ]
        lines += ["", f"{report.headline} by {name}:", "", *_board(header, cells)]
    return "\n".join(lines) + "\n"


def _sources(report: Report) -> list[str]:
    """Returns lines of Markdown with the arms' differences to the sources of the prior; empty if no
    source was measured alone."""
    lines = [line for line in report.lines if line.sources]
    names = [name for name in STANDALONE if any(name in line.sources for line in lines)]
    if not names:
        return []
    cells = [[line.arm, *(str(line.sources.get(name, "")) for name in names)] for line in lines]
    manifest = report.manifest
    retrieve = Retrieve.model_validate(manifest["settings"]["retrieve"])
    weights = retrieve.of(manifest["domain"])
    configured = ", ".join(f"{name} {weight_in_words(weights[name])}" for name in SOURCES)
    text = (
        f"{report.headline} less that of each source of the prior alone (95 %); configured "
        f"weights: {configured}."
    )
    return [text, "", *_board(["arm", *(f"− {name}" for name in names)], cells), ""]


def _in_slice(subset: Slice, arm: str) -> str:
    if arm not in subset.means:
        return "–"
    mean, gap = hundred(subset.means[arm]), subset.versus.get(arm)
    return f"{mean} ({signed(gap.difference)}{'*' if gap.clear else ''})" if gap else mean


def _board(header: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [_line(header), _line(["---"] * len(header)), *map(_line, lines)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
