"""`whyrank eval …`: mounted by the command line through the entry-point group
`whyrank.commands`."""

import asyncio
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from eval import fit as fitting
from eval import report as reports
from eval.cases import FETCHED, Data
from eval.curve import STEPS, CurveTarget, curve_page, measure_curve
from eval.judgements import relevance
from eval.leaks import find_leaks
from eval.learners import Kind
from eval.own import own_data
from eval.production import production as from_production
from eval.protocols import LIKED, PROTOCOLS, Options, make
from eval.publish import markdown as as_markdown
from eval.ranker import RankerTarget, fit_ranker
from eval.reasons_report import reasons
from eval.rows import RunRow, rows
from eval.run import Allowance, Progress, Run
from eval.side_by_side import compare_models as compare_models
from eval.store import Make
from eval.suite import Suite
from eval.terminal import (
    console,
    print_case,
    print_comparison,
    print_curve,
    print_fit,
    print_rankers,
    print_report,
    run_progress,
)
from eval.wishes_report import wishes
from service.build import build
from service.config import HOUSE, RankerHistory, Settings
from service.errors import BadRequest

app = typer.Typer(
    help="Which prompt, model and strategy ranks best on your data, with intervals.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Argument(help="A run's folder.")]
Protocol = StrEnum("Protocol", {name: name for name in PROTOCOLS})  # type: ignore[misc]  # its members are the protocols
DEFAULT = Protocol("temporal")
OWN_CUT = 0.8
"""The share of the service's own log that is known to the cases that judge a ranker."""
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only the first N cases (they stand in random order).")
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Rankings at a time.")]
Spend = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Dollars over the whole run, kept answers included. Once they are spent no "
        "question to a model with a price is "
        "begun: those under way (--concurrency) still end and may go beyond it; free ones go "
        "on. What is done is kept, and the "
        "same command with a higher cap goes on.",
    ),
]


@app.command()
def cases(
    context: typer.Context,
    data: Annotated[
        str, typer.Argument(help="A data folder, or the name of what 'whyrank data' fetched.")
    ],
    out: Annotated[Path, typer.Option(help="The case folder to make.")],
    protocol: Annotated[
        Protocol, typer.Option(help="How history is split from what is asked for.")
    ] = DEFAULT,
    negatives: Annotated[
        int, typer.Option(min=1, help="Of sampled and popularity-matched, a case.")
    ] = 19,
    share: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.9, help="Of temporal and random: the last share of liked items."
        ),
    ] = 0.2,
    cut: Annotated[
        float,
        typer.Option(
            min=0.05, max=0.99, help="Of global-time: the share of events before the cut."
        ),
    ] = 0.9,
    seed: Annotated[int, typer.Option(help="The same seed makes the same cases.")] = 0,
) -> None:
    """Make cases from a log: what was known of a person, and what they liked next."""
    settings: Settings = context.obj
    folder = settings.data / data if data in FETCHED else Path(data)
    options = Options(settings.events.of(settings.service.domain), negatives, share, cut, seed)
    with console.status("making cases …"):
        summary = make(Data.read(folder), protocol.value, out, options)
    console.print(
        f"{summary['cases']} cases in {out}: {summary['relevant_per_case']} relevant items each, "
        f"{summary['log']} events may be known"
    )
    console.print(
        f"{summary['ties']} cases have events tied in their second (neither known nor asked for)"
    )
    for note in summary["notes"]:
        console.print(f"[yellow]{escape(note)}[/]")


@app.command()
def run(
    context: typer.Context,
    suite: Annotated[
        Path, typer.Argument(help="YAML: data × prompts × models × strategies × settings.")
    ],
    out: Annotated[Path, typer.Option(help="Where rows go; a killed run goes on from there.")],
    limit: Limit = None,
    concurrency: Concurrency = 4,
    spend: Spend = None,
) -> None:
    """Run a suite through the service's own pipeline, then report. Costs nothing for what is done
    already.

    A suite's models may be any aliases of the configuration, hosted ones too; prices are theirs
    (models.*.price).
    """
    parsed = Suite.read(suite)
    allowance = Allowance(limit, concurrency, spend)
    done = asyncio.run(_run(parsed, context.obj, out, allowance))
    try:
        print_report(reports.report(out), out)
    except BadRequest as error:
        if not done.unpaid:
            raise
        console.print(f"[yellow]no report yet:[/] {escape(error.message)}")
    if done.unpaid:
        again = f"whyrank eval run {suite} --out {out}" + (f" --limit {limit}" if limit else "")
        again += f" --spend {_higher_cap(done.cost)}"
        console.print(
            f"[yellow]${done.cost:.4f} are spent, the cap is ${spend:g}: {done.done} of "
            f"{done.total} rankings are done and kept; this goes on: {again}[/]",
            soft_wrap=True,
        )


def _higher_cap(cost: float) -> str:
    """A cap under which a run that has cost so much can go on."""
    return f"{max(0.01, 2 * cost):.2f}"


def _maker(suite: Suite) -> Make:
    return partial(build, prompts=suite.prompt_folder or HOUSE / "prompts")


async def _run(suite: Suite, settings: Settings, out: Path, allowance: Allowance) -> Progress:
    status = console.status("checking the suite, filling its store …")
    status.start()
    try:
        async with Run.open(suite, settings, out, _maker(suite), allowance.limit) as run:
            status.stop()
            with run_progress(suite.metrics[0]) as step:
                done = await run.go(step, allowance.concurrency, allowance.spend)
            await find_leaks(run)
            return done
    finally:
        status.stop()


FitCases = Annotated[
    Path | None,
    typer.Argument(
        help="A case folder, as 'whyrank eval cases' makes it; with --ranker, none: the "
        "service's own log."
    ),
]
FitOut = Annotated[
    Path | None,
    typer.Option(help="Where the model's answers go; a killed fit goes on from there."),
]
RankerOption = Annotated[
    Kind | None,
    typer.Option(
        help="Learn a ranker over all sources instead, without a model: linear, trees, both (1,000 "
        "lists and more), or what validation favours."
    ),
]
RefreshOption = Annotated[
    bool, typer.Option(help="With --ranker: promote it also if it is only as good as what serves.")
]
HistoryOption = Annotated[
    bool, typer.Option(help="Show the rankers that were learned, and which serve.")
]
RollbackOption = Annotated[
    bool, typer.Option(help="Take the latest serving ranker back, for the one before it.")
]


def fit(
    context: typer.Context,
    data: FitCases = None,
    out: FitOut = None,
    ranker: RankerOption = None,
    refresh: RefreshOption = False,
    history: HistoryOption = False,
    rollback: RollbackOption = False,
    model: Annotated[
        str | None, typer.Option(help="Alias whose share to fit; default: the one that ranks.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="How it is asked; default: likelihood in process, else listwise."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=40, help="Only the first N cases.")] = None,
    concurrency: Concurrency = 4,
    spend: Spend = None,
) -> None:
    """Learn what fusion weighs on one half of the people, report once on the other half, and write
    the weights.

    Source weights, what popularity and likeness take off, and the model's share: 0 if it does not
    beat a shuffle.

    With --ranker: learn from earlier cuts of the log how to order candidates, for people with 1 to
    3 likes, 4 to 20 and more; promote what is better on others by its whole interval.
    Without cases: from the service's own log. A running service takes it up within a minute.
    """
    settings: Settings = context.obj
    if history or rollback:
        _show_rankers(settings, roll_back=rollback)
        return
    if out is None or (data is None and ranker is None):
        raise typer.BadParameter("which cases, and where to? as in: whyrank fit cases --out fit")
    if ranker is not None:
        _fit_ranker(data, ranker, settings, out, refresh=refresh)
        return
    assert data is not None
    alias = model or settings.roles.rank
    if alias not in settings.models:
        raise BadRequest(f"no model {alias!r}; configured: {', '.join(settings.models)}")
    way = strategy or ("likelihood" if settings.models[alias].backend == "local" else "listwise")
    allowance = Allowance(limit, concurrency, spend)
    _fit_weights(fitting.FitTarget(data, alias, way), settings, out, allowance)


def _fit_weights(
    target: fitting.FitTarget, settings: Settings, out: Path, allowance: Allowance
) -> None:
    lines: list[str] = []
    with console.status("fitting …") as status:

        def tell(line: str) -> None:
            lines.append(line)
            status.update(line)

        maker = partial(build, prompts=HOUSE / "prompts")
        fitted = asyncio.run(fitting.fit(target, settings, out, maker, tell, allowance))
    for line in dict.fromkeys(line for line in lines if not line.startswith("asking")):
        console.print(f"· {escape(line)}")
    print_fit(fitted)


def _show_rankers(settings: Settings, *, roll_back: bool) -> None:
    history = RankerHistory(settings.rankers_folder / settings.service.domain)
    if roll_back:
        taken = history.roll_back()
        still = ", ".join(map(str, history.serving))
        console.print(f"ranker {taken} was taken back; now serve: {still or 'none, but the prior'}")
    print_rankers(history)


def _fit_ranker(
    data: Path | None, kind: Kind, settings: Settings, out: Path, *, refresh: bool
) -> None:
    with console.status("learning …") as status:

        def tell(line: str) -> None:
            status.update(line)
            console.print(f"· {escape(line)}", highlight=False)

        async def learn() -> None:
            cases = data or await _own_cases(settings, out)
            maker = partial(build, llms={}, scorers={})
            await fit_ranker(RankerTarget(cases, kind, refresh), settings, out, maker, tell)

        asyncio.run(learn())
    print_rankers(RankerHistory(settings.rankers_folder / settings.service.domain))


async def _own_cases(settings: Settings, out: Path) -> Path:
    """Makes cases of the service's own log, as it is served: what was liked after one moment."""
    service = await build(settings, llms={}, scorers={})
    try:
        data = await own_data(service, out / "log")
    finally:
        await service.close()
    meanings = settings.events.of(settings.service.domain)
    make(data, "global-time", out / "cases", Options(meanings, cut=OWN_CUT))
    return out / "cases"


@app.command()
def report(
    context: typer.Context,
    folder: Out,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also slice by this attribute of users; may be given again."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the Markdown to this file.")
    ] = None,
) -> None:
    """Leaderboard and slices in the terminal, and as CSV, JSON, Markdown and one HTML page in the
    folder."""
    leaderboard = reports.report(folder, by or ())
    print_report(leaderboard, folder)
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(as_markdown(leaderboard), encoding="utf-8")


@app.command()
def curve(
    context: typer.Context,
    suites: Annotated[list[Path], typer.Argument(help="Suites: their first case folders.")],
    out: Annotated[Path, typer.Option(help="Where the stores are made.")],
    people: Annotated[int, typer.Option(min=2, help="At most so many of each folder.")] = 200,
    events: Annotated[
        int, typer.Option(min=1, help="The longest history; who has less is not asked about.")
    ] = STEPS[-1],
    markdown: Annotated[Path | None, typer.Option(help="Also write a page to this file.")] = None,
) -> None:
    """How good is the order for somebody of whom 0, 1, 2 … events are known, and does each further
    event help? Without a model."""
    curves = []
    for file in suites:
        target = CurveTarget(Suite.read(file), people, events)
        with console.status(f"{file.stem} …") as status:
            maker = partial(build, llms={}, scorers={})
            measuring = measure_curve(target, context.obj, out / file.stem, maker, status.update)
            curves.append(asyncio.run(measuring))
        print_curve(curves[-1])
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(curve_page(curves), encoding="utf-8")


app.command()(reasons)
app.command()(wishes)
app.command()(relevance)


@app.command()
def production(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The run's folder to make.")],
    within: Annotated[
        float,
        typer.Option(min=0.01, max=8_760, help="Hours after a ranking in which a like counts."),
    ] = 24,
    days: Annotated[
        float | None,
        typer.Option(min=0.01, max=36_500, help="Only what was shown in the last days."),
    ] = None,
    least: Annotated[
        float, typer.Option(min=0.01, max=1, help="The opinion that is a like; 0.3: a click, too.")
    ] = LIKED,
) -> None:
    """Did the model in the shadow place what people then liked better than what they were shown?
    From the service's own log."""
    since = datetime.now(UTC) - timedelta(days=days) if days is not None else None
    with console.status("reading the log …"):
        asyncio.run(_production(context.obj, out, timedelta(hours=within), since, least))
    print_report(reports.report(out), out)


async def _production(
    settings: Settings, out: Path, within: timedelta, since: datetime | None, least: float
) -> None:
    service = await build(settings, llms={}, scorers={})
    try:
        await from_production(service, out, within, since, least)
    finally:
        await service.close()


@app.command()
def show(
    context: typer.Context,
    folder: Out,
    case: Annotated[str, typer.Argument(help="The case's id.")],
    suite: Annotated[Path, typer.Option(help="The suite that was run.")],
    arm: Annotated[
        str | None, typer.Option(help="Which arm; default: the first that asked a model.")
    ] = None,
) -> None:
    """One case from inside: prompt, tokens, what the model said, how it was read, and the
    ranking."""
    parsed = Suite.read(suite)
    answers = [
        row for row in rows(folder) if row.case == case and not row.probe and arm in {None, row.arm}
    ]
    if not answers:
        raise BadRequest(
            f"{folder} has no row of case {case!r}" + (f" and arm {arm!r}" if arm else "")
        )
    row = next((row for row in answers if row.said), answers[0])
    asyncio.run(_show(parsed, context.obj, folder, row))


async def _show(suite: Suite, settings: Settings, out: Path, row: RunRow) -> None:
    async with Run.open(suite, settings, out, _maker(suite)) as run:
        await print_case(run, row)


@app.command()
def compare(
    context: typer.Context,
    folder: Out,
    one: Annotated[str, typer.Argument(help="An arm.")],
    other: Annotated[str, typer.Argument(help="Another arm.")],
    metric: Annotated[str | None, typer.Option(help="Default: the suite's first.")] = None,
) -> None:
    """The paired difference of two arms, and the cases where the first gains and loses most."""
    print_comparison(reports.compare(folder, one, other, metric), one, other)
