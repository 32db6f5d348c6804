"""`whyrank eval …`: mounted by the command line through the entry-point group
`whyrank.commands`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from eval import compare as comparing
from eval import fit as fitting
from eval import report as reports
from eval.cases import FETCHED, LIKED, PROTOCOLS, Data, Options, make
from eval.production import production as from_production
from eval.run import Job, Make, Run, asked_sha, rows
from eval.run import Progress as Done
from eval.suite import Suite
from service.config import HOUSE, Settings
from service.errors import BadRequest, reasons
from service.pipeline import build
from service.schema import Ranking, RecommendRequest

app = typer.Typer(
    help="Which prompt, model and strategy ranks best on your data, with intervals.",
    no_args_is_help=True,
)
console = Console()
errors = Console(stderr=True)


Out = Annotated[Path, typer.Argument(help="A run's folder.")]
Protocol = StrEnum("Protocol", {name: name for name in PROTOCOLS})  # type: ignore[misc]  # its members are the protocols
DEFAULT = Protocol("temporal")
Explain = StrEnum("Explain", ["none", "short", "full"])
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
        told = make(Data.read(folder), protocol.value, out, options)
    console.print(
        f"{told['cases']} cases in {out}: {told['relevant_per_case']} relevant items each, "
        f"{told['log']} events may be known"
    )
    console.print(
        f"{told['ties']} cases have events tied in their second (neither known nor asked for)"
    )
    for note in told["notes"]:
        console.print(f"[yellow]{escape(note)}[/]")


@app.command()
def run(
    context: typer.Context,
    suite: Annotated[
        Path, typer.Argument(help="YAML: data × prompts × models × strategies × settings.")
    ],
    out: Annotated[Path, typer.Option(help="Where rows go; a killed run goes on from there.")],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N cases (they stand in random order).")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Rankings at a time.")] = 4,
    spend: Spend = None,
) -> None:
    """Run a suite through the service's own pipeline, then report. Costs nothing for what is done
    already.

    A suite's models may be any aliases of the configuration, hosted ones too; prices are theirs
    (models.*.price).
    """
    asked = Suite.read(suite)
    done = asyncio.run(_run(asked, context.obj, out, _maker(asked), limit, concurrency, spend))
    try:
        _print(reports.report(out), out)
    except BadRequest as error:
        if not done.unpaid:
            raise
        console.print(f"[yellow]no report yet:[/] {escape(error.message)}")
    if done.unpaid:
        again = f"whyrank eval run {suite} --out {out}" + (f" --limit {limit}" if limit else "")
        console.print(
            f"[yellow]{_unpaid(done, spend)}; this goes on: {again} --spend {_more(done.cost)}[/]",
            soft_wrap=True,
        )


def _unpaid(done: Done, spend: float | None) -> str:
    return (
        f"${done.cost:.4f} are spent, the cap is ${spend:g}: {done.done} of {done.total} "
        f"rankings are done and kept"
    )


def _more(cost: float) -> str:
    """A cap that a run that cost so much can go on under."""
    return f"{max(0.01, 2 * cost):.2f}"


def _maker(suite: Suite) -> Make:
    return partial(build, prompts=suite.prompt_folder or HOUSE / "prompts")


async def _run(
    suite: Suite,
    settings: Settings,
    out: Path,
    maker: Make,
    limit: int | None,
    concurrency: int,
    spend: float | None,
) -> Done:
    status = console.status("checking the suite, filling its store …")
    status.start()
    try:
        async with Run.open(suite, settings, out, maker, limit) as work:
            status.stop()
            with _progress(suite.metrics[0]) as step:
                done = await work.go(step, concurrency, spend)
            await work.leaks()
            return done
    finally:
        status.stop()


@contextmanager
def _progress(headline: str) -> Iterator[Callable[[Done], None]]:
    columns = (
        BarColumn(12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("")

        def step(done: Done) -> None:
            name, value = max(done.running.items(), key=lambda pair: pair[1], default=("", 0.0))
            spent = f"{done.tokens:,} tokens" + (f", ${done.cost:.4f}" if done.cost else "")
            told = f"{spent} · best {headline}: {100 * value:.2f} {escape(name)}"
            told += f" · [yellow]no money for {done.unpaid}[/]" if done.unpaid else ""
            bars.update(bar, completed=done.done, total=done.total, description=told)

        yield step


def fit(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="A case folder, as 'whyrank eval cases' makes it.")],
    out: Annotated[
        Path, typer.Option(help="Where the model's answers go; a killed fit goes on from there.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Alias whose share to fit; default: the one that ranks.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="How it is asked; default: likelihood in process, else listwise."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=40, help="Only the first N cases.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Rankings at a time.")] = 4,
    spend: Spend = None,
) -> None:
    """Learn what fusion weighs on one half of the people, report once on the other half, and write
    the weights.

    Source weights, what popularity and likeness take off, and the model's share: 0 if it does not
    beat a shuffle.
    """
    settings: Settings = context.obj
    alias = model or settings.roles.rank
    if alias not in settings.models:
        raise BadRequest(f"no model {alias!r}; configured: {', '.join(settings.models)}")
    way = strategy or ("likelihood" if settings.models[alias].backend == "local" else "listwise")
    with console.status("fitting …") as status:
        told: list[str] = []

        def tell(line: str) -> None:
            told.append(line)
            status.update(line)

        maker = partial(build, prompts=HOUSE / "prompts")
        found = asyncio.run(
            fitting.fit(
                data,
                alias,
                settings,
                out,
                maker,
                tell,
                strategy=way,
                limit=limit,
                concurrency=concurrency,
                spend=spend,
            )
        )
    for line in dict.fromkeys(line for line in told if not line.startswith("asking")):
        console.print(f"· {escape(line)}")
    for part in ("validation", "test"):
        table = Table(f"nDCG@10 × 100, {part} people ({found.found['people'][part]})", "")
        for name, value in found.found[part].items():
            table.add_row(name, _gap(value) if isinstance(value, dict) else f"{value:.2f}")
        console.print(table)
    console.print(f"written: {found.file}; the service uses it from its next start or reload")


def _gap(found: dict[str, float]) -> str:
    return f"{found['difference']:+.2f} ({found['low']:+.2f}…{found['high']:+.2f})"


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
    found = reports.report(folder, by or ())
    _print(found, folder)
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(reports.markdown(found), encoding="utf-8")


def _print(found: reports.Report, folder: Path) -> None:
    header, lines = reports.table(found)
    wide = console.width >= 150
    shown = range(len(header)) if wide else range(7)
    board = Table(title=f"{found.headline} × 100, against {found.baseline}", title_justify="left")
    for n in shown:
        board.add_column(header[n], justify="left" if n == 0 else "right", overflow="fold")
    for line in lines:
        board.add_row(
            *(escape(line[n]) for n in shown), style="bold" if line[0] == found.baseline else ""
        )
    console.print(board)
    for name in dict.fromkeys(one.name for one in found.slices):
        parts = [one for one in found.slices if one.name == name]
        cut = Table(
            "arm",
            *(f"{one.value} ({one.cases})" for one in parts),
            title=f"by {name}",
            title_justify="left",
        )
        for arm in (line.arm for line in found.lines):
            cut.add_row(
                escape(arm),
                *(f"{100 * one.means[arm]:.2f}" if arm in one.means else "–" for one in parts),
            )
        console.print(cut)
    for told in [*(reports.verdict(found, line) for line in found.lines), *reports.notes(found)]:
        if told:
            console.print(f"· {escape(told)}")
    files = reports.write(found, folder)
    console.print(
        f"[dim]{'all columns are in' if not wide else 'written:'} "
        f"{', '.join(file.name for file in files)} in {folder}[/]"
    )


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
    _print(reports.report(out), out)


async def _production(
    settings: Settings, out: Path, within: timedelta, since: datetime | None, least: float
) -> None:
    recommender = await build(settings, llms={}, scorers={})
    try:
        await from_production(recommender, out, within, since, least)
    finally:
        await recommender.close()


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
    asked = Suite.read(suite)
    found = [
        row
        for row in rows(folder)
        if row["case"] == case and not row["probe"] and arm in {None, row["arm"]}
    ]
    if not found:
        raise BadRequest(
            f"{folder} has no row of case {case!r}" + (f" and arm {arm!r}" if arm else "")
        )
    row = next((row for row in found if row["said"]), found[0])
    asyncio.run(_show(asked, context.obj, folder, row))


async def _show(suite: Suite, settings: Settings, out: Path, row: dict[str, Any]) -> None:
    async with Run.open(suite, settings, out, _maker(suite)) as work:
        arm = next(arm for arm in work.arms if arm.name == row["arm"])
        data = work.data[arm.data]
        case = next(case for case in data.cases if case.case_id == row["case"])
        titles = {item.id: item.title for item in data.items}
        recommender = await work.recommender(arm)
        size = f"{len(case.history)} known, {len(case.relevant)} asked for"
        console.print(f"[bold]{escape(arm.name)}[/], case {escape(case.case_id)}: {size}")
        if row["said"]:
            shown = await recommender.preview(work.request(Job(arm, case)), "rank")
            for message in shown.messages:
                console.rule(message["role"])
                console.print(message["content"], markup=False, highlight=False)
            same = asked_sha(shown.messages) == row["asked"][0]
            told = (
                f"{row['tokens'][0]} tokens read, {row['tokens'][1]} written, "
                f"{row['seconds']:.2f} s"
            )
            console.rule(
                f"said ({told}{'' if same else '; the prompt or the data have changed since'})"
            )
            for said in row["said"]:
                console.print(said, markup=False, highlight=False)
        console.rule(f"read as (repairs: {row['repairs']}, degraded: {row['degraded'] or 'no'})")
        if row["order"]:
            console.print(
                " › ".join(titles.get(item, item) for item in row["order"]),
                markup=False,
                highlight=False,
            )
        table = Table("#", "id", "title", "score", "relevant")
        for place, (item, score) in enumerate(zip(row["items"], row["scores"], strict=True), 1):
            if place <= 20 or item in case.relevant:
                hit = "[green]yes[/]" if item in case.relevant else ""
                table.add_row(
                    str(place), escape(item), escape(titles.get(item, "")), f"{score:.4f}", hit
                )
        console.print(table)
        lost = [titles.get(item, item) for item in case.relevant if item not in row["items"]]
        if lost:
            console.print(f"[yellow]not among the candidates:[/] {escape(', '.join(lost))}")


@app.command()
def compare(
    context: typer.Context,
    folder: Out,
    one: Annotated[str, typer.Argument(help="An arm.")],
    other: Annotated[str, typer.Argument(help="Another arm.")],
    metric: Annotated[str | None, typer.Option(help="Default: the suite's first.")] = None,
) -> None:
    """The paired difference of two arms, and the cases where the first gains and loses most."""
    found = reports.compare(folder, one, other, metric)
    gap = found.versus
    told = (
        f"95 % {100 * gap.low:+.2f} … {100 * gap.high:+.2f}, p {gap.p:.4f}, {gap.cases} "
        f"cases; could see {100 * gap.seen:.2f}"
    )
    console.print(f"{escape(one)} − {escape(other)}: [bold]{100 * gap.difference:+.2f}[/] ({told})")
    for title, gaps in (("gains", found.better), ("loses", found.worse)):
        if gaps:
            table = Table("case", one, other, title=f"{one} {title}", title_justify="left")
            for case, a, b in gaps:
                table.add_row(escape(case), f"{100 * a:.2f}", f"{100 * b:.2f}")
            console.print(table)


# ── models beside each other ──────────────────────────────────────────────────────────────────────


def compare_models(
    context: typer.Context,
    model: Annotated[
        list[str],
        typer.Option(
            help="An alias of the configuration, or whyrank-prior; twice or more, or as a,b."
        ),
    ],
    user: Annotated[str | None, typer.Option(help="For whom.")] = None,
    suite: Annotated[
        Path | None,
        typer.Option(
            help="For many: a file of user ids, one a line, or a folder of 'whyrank eval cases'."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N people of the suite.")
    ] = None,
    top_n: Annotated[
        int, typer.Option(min=1, help="How many to show, and the k of overlap@k.")
    ] = 10,
    instruction: Annotated[str | None, typer.Option(help="What they want now, in words.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="How all are asked: auto, likelihood, listwise, keyed, …")
    ] = None,
    explain: Annotated[
        Explain, typer.Option(help="Reasons, each model's own; they take time and money too.")
    ] = Explain.none,
    as_json: Annotated[
        bool, typer.Option("--json", help="All answers, or all means, as JSON.")
    ] = False,
) -> None:
    """Several models side by side, on the same candidates: what each puts first, how alike, how
    fast, at what price.

    whyrank compare --user 196 --model small --model gpt

    whyrank compare --suite users.txt --limit 50 --model whyrank-prior,small,gpt

    The prior chooses the candidates once, as many as a model judges (rank.depth); then each model
    is asked for its order of exactly these, one after the other. Kendall's τ says how alike two
    whole orders are (1: the same, 0: by chance, −1: reversed), overlap@k what share of the first k
    both name; before fusion they are the models' own, without the share that the prior has in what
    is served (models.*.weight). A model that fails is answered for as in the service, and the table
    says so. With a case folder nDCG@10 says who finds what people liked next; its log is kept in a
    store of its own, and your data stay as they are. Nothing of a suite is kept when it is broken
    off: for long runs, with a cap on what they may cost, there is 'whyrank eval run'.
    """
    settings: Settings = context.obj
    aliases = comparing.named(model, settings)
    if (user is None) == (suite is None):
        raise BadRequest(
            "who? either --user ID, or --suite with a file of user ids or a case folder"
        )
    asked = _asked(
        user_id=user, top_n=top_n, instruction=instruction, strategy=strategy, explain=explain.value
    )
    cases = Data.read(suite) if suite is not None and suite.is_dir() else None
    if suite is None:
        questions = [comparing.ComparedCase(asked)]
    else:
        questions = (
            comparing.of_cases(cases, asked) if cases else comparing.of_people(suite, asked)
        )[:limit]
    answers = asyncio.run(_answers(settings, aliases, questions, cases))
    if as_json:
        typer.echo(
            json.dumps(_whole(answers, top_n, alone=suite is None), ensure_ascii=False, indent=2)
        )
    elif suite is None:
        _side_by_side(answers[0], top_n)
    else:
        _means(answers, top_n)


def _asked(**fields: Any) -> RecommendRequest:
    try:
        return RecommendRequest.model_validate(
            {name: value for name, value in fields.items() if value is not None}
        )
    except ValidationError as error:
        raise BadRequest(reasons(error)) from error


async def _answers(
    settings: Settings,
    aliases: Sequence[str],
    questions: Sequence[comparing.ComparedCase],
    cases: Data | None,
) -> list[comparing.Answers]:
    columns = (
        BarColumn(12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        bar = bars.add_task("waking the models …", total=len(aliases) * len(questions))
        async with comparing.Panel.open(build, settings, aliases, questions, cases) as panel:

            def step(alias: str) -> None:
                bars.update(bar, advance=1, description=f"{escape(alias)} has answered")

            return [await panel.ask(question, step) for question in questions]


def _side_by_side(found: comparing.Answers, k: int) -> None:
    """Ranks as rows, models as columns; then what each took, how alike they are, and why each chose
    its first."""
    rankings, request = found.rankings, found.question.request
    board = _board(f"{request.user_id}: {len(found.candidates)} candidates", "#", rankings)
    for place in range(min(k, len(found.candidates))):
        board.add_row(str(place + 1), *(_title(one, place) for one in rankings.values()))
    console.print(board)
    figures = _board("", "", rankings)
    for name, told in TOLD.items():
        cells = [escape(told(ranking)) for ranking in rankings.values()]
        if any(cells):
            figures.add_row(name, *cells)
    console.print(figures)
    _agree([found], k)
    if request.explain != "none":
        why = _board("why", "#", rankings)
        for place in range(min(3, k, len(found.candidates))):
            why.add_row(str(place + 1), *(_reason(ranking, place) for ranking in rankings.values()))
        console.print(why)


def _board(title: str, first: str, names: Iterable[str]) -> Table:
    table = Table(first, title=escape(title) or None, title_justify="left")
    for name in names:
        table.add_column(escape(name), overflow="fold")
    return table


def _title(ranking: Ranking, place: int) -> str:
    return escape(ranking.items[place].title or ranking.items[place].item_id)


def _reason(ranking: Ranking, place: int) -> str:
    return (
        f"[bold]{_title(ranking, place)}[/]: "
        f"{escape(ranking.items[place].reason or 'it writes none')}"
    )


def _chain(ranking: Ranking) -> str:
    """What failed before somebody answered, in order."""
    gone = ranking.degraded
    if gone is None:
        return "no"
    tried = [(one.strategy, one.reason) for one in ranking.choice.tried] if ranking.choice else []
    return " → ".join(
        [*(f"{name} ({why})" for name, why in tried or [(gone.from_, gone.reason)]), gone.to]
    )


def _dollars(cost: float | None) -> str:
    return "no price" if cost is None else f"${cost:.6f}" if cost < 0.01 else f"${cost:.4f}"


TOLD: dict[str, Callable[[Ranking], str]] = {
    "answered by": lambda one: f"{one.strategy} by {one.model}" if one.model else "the prior",
    "because": lambda one: one.choice.why if one.choice else "",
    "degraded": _chain,
    "seconds": lambda one: f"{one.timings.total_ms / 1000:.2f}",
    "tokens read": lambda one: f"{one.usage.prompt_tokens}",
    "tokens written": lambda one: f"{one.usage.completion_tokens}",
    "cost": lambda one: _dollars(one.usage.cost),
}


def _means(answers: Sequence[comparing.Answers], k: int) -> None:
    aliases = list(answers[0].rankings)
    found = {alias: comparing.figures(answers, alias) for alias in aliases}
    told: dict[str, Callable[[comparing.Figures], str]] = {
        "seconds (median)": lambda one: f"{one.seconds:.2f}",
        "tokens read": lambda one: f"{one.read:.0f}",
        "tokens written": lambda one: f"{one.written:.0f}",
        "cost of 1,000": lambda one: _dollars(one.cost),
        "degraded": lambda one: f"{one.degraded:.1%}",
    }
    if any(one.quality for one in found.values()):
        told[f"{comparing.HEADLINE} × 100"] = lambda one: _quality(one.quality)
    table = _board(f"means over {len(answers)} people", "", aliases)
    for name, tell in told.items():
        table.add_row(name, *(tell(one) for one in found.values()))
    console.print(table)
    _agree(answers, k)


def _quality(found: tuple[float, float, float] | None) -> str:
    return "{:.2f} ({:.2f}…{:.2f})".format(*(100 * value for value in found)) if found else "–"


def _agree(answers: Sequence[comparing.Answers], k: int) -> None:
    table = Table("", "Kendall's τ", f"overlap@{k}", "τ before fusion")
    for pair in comparing.agreements(answers, k):
        own = "–" if pair.own is None else f"{pair.own:+.2f}"
        table.add_row(
            f"{escape(pair.one)} ~ {escape(pair.other)}",
            f"{pair.tau:+.2f}",
            f"{pair.overlap:.0%}",
            own,
        )
    console.print(table)


def _whole(answers: Sequence[comparing.Answers], k: int, *, alone: bool) -> dict[str, Any]:
    """As data: the answers for one person, or the means over many."""
    agree = {"k": k, "agreement": [asdict(pair) for pair in comparing.agreements(answers, k)]}
    first = answers[0]
    if alone:
        rankings = {
            alias: ranking.model_dump(mode="json") for alias, ranking in first.rankings.items()
        }
        return {
            "user_id": first.question.request.user_id,
            "candidates": first.candidates,
            "rankings": rankings,
            **agree,
        }
    return {
        "people": len(answers),
        "models": {one: asdict(comparing.figures(answers, one)) for one in first.rankings},
        **agree,
    }
