"""What `whyrank eval` and `whyrank fit` show in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from eval import fit as fitting
from eval import run as running
from eval.cases import Case
from eval.curve import Curve
from eval.leaderboard import notes, table, verdict
from eval.publish import write
from eval.report import Comparison, Report
from eval.rows import RunJob, RunRow, prompt_sha
from eval.run import Run
from service.config import History, RankerHistory

console = Console()
WIDE = 150
"""The width of a terminal, in characters, from which the whole leaderboard is shown."""
NARROW = 7
"""How many columns of the leaderboard a narrower terminal shows."""
SHOWN = 20
"""How many of a case's first items are shown; relevant items are shown wherever they stand."""
LIKES: dict[History, str] = {"none": "0", "few": "1–3", "some": "4–20", "many": "21+"}
"""How many likes people have, by kind of history."""


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar while things are measured. Yields a function that takes how many are done, and of
    how many."""
    columns = (
        BarColumn(12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


@contextmanager
def run_progress(headline: str) -> Iterator[running.Step]:
    """Shows a bar while a run goes on. Yields a function that takes the run's progress."""
    columns = (
        BarColumn(12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("")

        def step(done: running.Progress) -> None:
            name, value = max(done.running.items(), key=lambda pair: pair[1], default=("", 0.0))
            text = f"{done.tokens:,} tokens" + (f", ${done.cost:.4f}" if done.cost else "")
            text += f" · best {headline}: {100 * value:.2f} {escape(name)}"
            text += f" · [yellow]no money for {done.unpaid}[/]" if done.unpaid else ""
            bars.update(bar, completed=done.done, total=done.total, description=text)

        yield step


def print_report(report: Report, folder: Path) -> None:
    """Prints the leaderboard, slices and notes, and writes the report's files into the folder."""
    header, lines = table(report)
    wide = console.width >= WIDE
    columns = range(len(header)) if wide else range(NARROW)
    title = f"{report.headline} × 100, against {report.baseline}"
    board = Table(title=title, title_justify="left")
    for n in columns:
        board.add_column(header[n], justify="left" if n == 0 else "right", overflow="fold")
    for line in lines:
        style = "bold" if line[0] == report.baseline else ""
        board.add_row(*(escape(line[n]) for n in columns), style=style)
    console.print(board)
    for name in dict.fromkeys(subset.name for subset in report.slices):
        console.print(_slices_table(report, name))
    verdicts = [verdict(report, line) for line in report.lines]
    for text in filter(None, [*verdicts, *notes(report)]):
        console.print(f"· {escape(text)}")
    names = ", ".join(file.name for file in write(report, folder))
    console.print(f"[dim]{'all columns are in' if not wide else 'written:'} {names} in {folder}[/]")


def _slices_table(report: Report, name: str) -> Table:
    parts = [subset for subset in report.slices if subset.name == name]
    header = ("arm", *(f"{subset.value} ({subset.cases})" for subset in parts))
    cut = Table(*header, title=f"by {name}", title_justify="left")
    for arm in (line.arm for line in report.lines):
        means = [subset.means.get(arm) for subset in parts]
        cells = ["–" if mean is None else f"{100 * mean:.2f}" for mean in means]
        cut.add_row(escape(arm), *cells)
    return cut


def print_comparison(comparison: Comparison, first: str, second: str) -> None:
    gap = comparison.versus
    figures = (
        f"95 % {100 * gap.low:+.2f} … {100 * gap.high:+.2f}, p {gap.p:.4f}, {gap.cases} "
        f"cases; could see {100 * gap.seen:.2f}"
    )
    names = f"{escape(first)} − {escape(second)}"
    console.print(f"{names}: [bold]{100 * gap.difference:+.2f}[/] ({figures})")
    for title, gaps in (("gains", comparison.better), ("loses", comparison.worse)):
        if gaps:
            cases = Table("case", first, second, title=f"{first} {title}", title_justify="left")
            for case, a, b in gaps:
                cases.add_row(escape(case), f"{100 * a:.2f}", f"{100 * b:.2f}")
            console.print(cases)


def print_fit(fit: fitting.Fit) -> None:
    for half in ("validation", "test"):
        people = fit.record["people"][half]
        figures = Table(f"nDCG@10 × 100, {half} people ({people})", "")
        for name, value in fit.record[half].items():
            figures.add_row(name, _gap(value) if isinstance(value, dict) else f"{value:.2f}")
        console.print(figures)
    console.print(f"written: {fit.file}; the service uses it from its next start or reload")


def _gap(gap: dict[str, float]) -> str:
    return f"{gap['difference']:+.2f} ({gap['low']:+.2f}…{gap['high']:+.2f})"


# ── a case from inside ────────────────────────────────────────────────────────────────────────────


async def print_case(run: Run, row: RunRow) -> None:
    """Prints the prompt that the row's model was shown, what it answered, how that was read, and
    the ranking."""
    arm = next(arm for arm in run.arms if arm.name == row.arm)
    data = run.data[arm.data]
    case = next(case for case in data.cases if case.case_id == row.case)
    titles = {item.id: item.title for item in data.items}
    size = f"{len(case.history)} known, {len(case.relevant)} asked for"
    console.print(f"[bold]{escape(arm.name)}[/], case {escape(case.case_id)}: {size}")
    if row.said:
        await _print_exchange(run, RunJob(arm, case), row)
    console.rule(f"read as (repairs: {row.repairs}, degraded: {row.degraded or 'no'})")
    if row.order:
        order = " › ".join(titles.get(item, item) for item in row.order)
        console.print(order, markup=False, highlight=False)
    console.print(_ranking_table(row, case, titles))
    lost = [titles.get(item, item) for item in case.relevant if item not in row.items]
    if lost:
        console.print(f"[yellow]not among the candidates:[/] {escape(', '.join(lost))}")


async def _print_exchange(run: Run, job: RunJob, row: RunRow) -> None:
    service = await run.service(job.arm)
    prompt = await service.previewer.preview(run.request(job), "rank")
    for message in prompt.messages:
        console.rule(message["role"])
        console.print(message["content"], markup=False, highlight=False)
    read, written = row.tokens
    facts = f"{read} tokens read, {written} written, {row.seconds:.2f} s"
    if prompt_sha(prompt.messages) != row.asked[0]:
        facts += "; the prompt or the data have changed since"
    console.rule(f"said ({facts})")
    for answer in row.said:
        console.print(answer, markup=False, highlight=False)


def _ranking_table(row: RunRow, case: Case, titles: dict[str, str]) -> Table:
    ranking = Table("#", "id", "title", "score", "relevant")
    for place, (item, score) in enumerate(zip(row.items, row.scores, strict=True), 1):
        relevant = item in case.relevant
        if place <= SHOWN or relevant:
            hit = "[green]yes[/]" if relevant else ""
            title = escape(titles.get(item, ""))
            ranking.add_row(str(place), escape(item), title, f"{score:.4f}", hit)
    return ranking


def print_curve(curve: Curve) -> None:
    """Prints nDCG@10 by how many events are known, and its difference to popularity and to the step
    before."""
    table = Table("events", "nDCG@10", "less popularity", "less the step before")
    table.title = f"{curve.data}: {curve.people} people"
    for step in curve.steps:
        versus = str(step.before or "–")
        table.add_row(str(step.events), f"{100 * step.ndcg:.2f}", str(step.popular), versus)
    console.print(table)


def print_rankers(history: RankerHistory) -> None:
    """Prints every ranker that was learned: for whom, how much better it is than what served then
    (95 %), whether it was promoted, and which serve."""
    records, serving = history.all(), history.serving
    if not records:
        console.print("no ranker was learned yet: whyrank fit cases --out fit --ranker auto")
        return
    table = Table("#", "learned", "likes", "lists", "nDCG@10", "less what served", "verdict")
    for number, record in records.items():
        verdict = "serves" if number in serving else "promoted" if record.promoted else "refused"
        found = record.found
        table.add_row(
            str(number),
            record.at[:10],
            LIKES[record.history],
            str(found.get("lists", "")),
            f"{found.get('learned', 0):.2f}",
            found.get("difference", record.why),
            verdict,
        )
    console.print(table)
