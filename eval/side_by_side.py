"""`whyrank compare`: several models side by side, on the same candidates."""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from eval import compare as comparing
from eval.cases import Data
from eval.compare import Answers, ComparedCase
from eval.terminal import console
from service.build import build
from service.config import Settings
from service.errors import BadRequest, reasons
from service.schema import Ranking, RecommendRequest

errors = Console(stderr=True)

Explain = StrEnum("Explain", ["none", "short", "full"])
Models = Annotated[
    list[str],
    typer.Option(help="An alias of the configuration, or whyrank-prior; twice or more, or as a,b."),
]
People = Annotated[
    Path | None,
    typer.Option(
        help="For many: a file of user ids, one a line, or a folder of 'whyrank eval cases'."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N people of the suite.")]
TopN = Annotated[int, typer.Option(min=1, help="How many to show, and the k of overlap@k.")]
Strategy = Annotated[
    str | None, typer.Option(help="How all are asked: auto, likelihood, listwise, keyed, …")
]
Reasons = Annotated[
    Explain, typer.Option(help="Reasons, each model's own; they take time and money too.")
]
AsJson = Annotated[bool, typer.Option("--json", help="All answers, or all means, as JSON.")]


def compare_models(
    context: typer.Context,
    model: Models,
    user: Annotated[str | None, typer.Option(help="For whom.")] = None,
    suite: People = None,
    limit: Limit = None,
    top_n: TopN = 10,
    instruction: Annotated[str | None, typer.Option(help="What they want now, in words.")] = None,
    strategy: Strategy = None,
    explain: Reasons = Explain.none,
    as_json: AsJson = False,
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
    aliases = comparing.parse_aliases(model, context.obj)
    if (user is None) == (suite is None):
        raise BadRequest(
            "who? either --user ID, or --suite with a file of user ids or a case folder"
        )
    fields = {"user_id": user, "top_n": top_n, "instruction": instruction, "strategy": strategy}
    request = _request({**fields, "explain": explain.value})
    cases = Data.read(suite) if suite is not None and suite.is_dir() else None
    questions = _questions(suite, cases, request)[:limit]
    answers = asyncio.run(_answers(context.obj, aliases, questions, cases))
    if as_json:
        content = _as_data(answers, top_n, single=suite is None)
        typer.echo(json.dumps(content, ensure_ascii=False, indent=2))
    elif suite is None:
        _print_rankings(answers[0], top_n)
    else:
        _print_means(answers, top_n)


def _request(fields: dict[str, Any]) -> RecommendRequest:
    try:
        return RecommendRequest.model_validate(
            {name: value for name, value in fields.items() if value is not None}
        )
    except ValidationError as error:
        raise BadRequest(reasons(error)) from error


def _questions(
    suite: Path | None, cases: Data | None, request: RecommendRequest
) -> list[ComparedCase]:
    if suite is None:
        return [ComparedCase(request)]
    if cases is None:
        return comparing.questions_of_people(suite, request)
    return comparing.questions_of_cases(cases, request)


async def _answers(
    settings: Settings,
    aliases: Sequence[str],
    questions: Sequence[ComparedCase],
    cases: Data | None,
) -> list[Answers]:
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


def _print_rankings(answers: Answers, k: int) -> None:
    """Ranks as rows, models as columns; then what each took, how alike they are, and why each chose
    its first."""
    rankings, request = answers.rankings, answers.question.request
    board = _board(f"{request.user_id}: {len(answers.candidates)} candidates", "#", rankings)
    for place in range(min(k, len(answers.candidates))):
        titles = (_title(ranking, place) for ranking in rankings.values())
        board.add_row(str(place + 1), *titles)
    console.print(board)
    facts = _board("", "", rankings)
    for name, describe in FACTS.items():
        cells = [escape(describe(ranking)) for ranking in rankings.values()]
        if any(cells):
            facts.add_row(name, *cells)
    console.print(facts)
    _print_agreements([answers], k)
    if request.explain != "none":
        why = _board("why", "#", rankings)
        for place in range(min(3, k, len(answers.candidates))):
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


def _failures(ranking: Ranking) -> str:
    """What failed before something answered, in order; "no" if nothing did."""
    degraded = ranking.degraded
    if degraded is None:
        return "no"
    failed = [(degraded.from_, degraded.reason)]
    if ranking.choice and ranking.choice.tried:
        failed = [(tried.strategy, tried.reason) for tried in ranking.choice.tried]
    return " → ".join([*(f"{name} ({why})" for name, why in failed), degraded.to])


def _dollars(cost: float | None) -> str:
    return "no price" if cost is None else f"${cost:.6f}" if cost < 0.01 else f"${cost:.4f}"


FACTS: dict[str, Callable[[Ranking], str]] = {
    "answered by": lambda ranking: (
        f"{ranking.strategy} by {ranking.model}" if ranking.model else "the prior"
    ),
    "because": lambda ranking: ranking.choice.why if ranking.choice else "",
    "degraded": _failures,
    "seconds": lambda ranking: f"{ranking.timings.total_ms / 1000:.2f}",
    "tokens read": lambda ranking: f"{ranking.usage.prompt_tokens}",
    "tokens written": lambda ranking: f"{ranking.usage.completion_tokens}",
    "cost": lambda ranking: _dollars(ranking.usage.cost),
}
"""What is shown of a ranking: by the row's name, the function that says it."""


def _print_means(answers: Sequence[Answers], k: int) -> None:
    aliases = list(answers[0].rankings)
    figures = [comparing.figures(answers, alias) for alias in aliases]
    means = _board(f"means over {len(answers)} people", "", aliases)
    means.add_row("seconds (median)", *(f"{model.seconds:.2f}" for model in figures))
    means.add_row("tokens read", *(f"{model.read:.0f}" for model in figures))
    means.add_row("tokens written", *(f"{model.written:.0f}" for model in figures))
    means.add_row("cost of 1,000", *(_dollars(model.cost) for model in figures))
    means.add_row("degraded", *(f"{model.degraded:.1%}" for model in figures))
    if any(model.quality for model in figures):
        cells = (_quality(model.quality) for model in figures)
        means.add_row(f"{comparing.HEADLINE} × 100", *cells)
    console.print(means)
    _print_agreements(answers, k)


def _quality(quality: tuple[float, float, float] | None) -> str:
    if quality is None:
        return "–"
    mean, low, high = quality
    return f"{100 * mean:.2f} ({100 * low:.2f}…{100 * high:.2f})"


def _print_agreements(answers: Sequence[Answers], k: int) -> None:
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


def _as_data(answers: Sequence[Answers], k: int, *, single: bool) -> dict[str, Any]:
    """The answers for a single person, or the means over many, as JSON has them."""
    agree = {"k": k, "agreement": [asdict(pair) for pair in comparing.agreements(answers, k)]}
    first = answers[0]
    if single:
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
        "models": {alias: asdict(comparing.figures(answers, alias)) for alias in first.rankings},
        **agree,
    }
