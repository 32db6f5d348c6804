"""`whyrank recommend` and `whyrank prompts`: a ranking as a table, and what a model is shown for
one."""

from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from service.build import Service
from service.cli.shell import console, run
from service.errors import reasons
from service.preview import PreviewTask
from service.schema import Item, PromptRef, Ranking, RecommendRequest

prompts = typer.Typer(
    help="The prompts in use, and what a model would be shown.", no_args_is_help=True
)


def recommend(
    context: typer.Context,
    user_id: Annotated[str, typer.Argument(help="For whom.")],
    top_n: Annotated[int, typer.Option(help="How many.")] = 5,
    strategy: Annotated[
        str | None, typer.Option(help="auto, likelihood, listwise, …; prior asks no model.")
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help="What the person wants now, in words.")
    ] = None,
    explain: Annotated[
        Literal["none", "short", "full"],
        typer.Option(help="Reasons: none, short, or full with all signals."),
    ] = "short",
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")] = False,
) -> None:
    """The ranked, justified list for a user."""
    request = build_request(
        user_id=user_id,
        top_n=top_n,
        strategy=strategy,
        instruction=instruction,
        explain=explain,
    )

    async def rank(service: Service) -> tuple[Ranking, dict[str, Item]]:
        ranking = await service.recommender.recommend(request)
        return ranking, await items_of(service, ranking)

    ranking, items = run(context.obj, rank)
    if as_json:
        typer.echo(ranking.model_dump_json(indent=2))
    else:
        print_ranking(ranking, items, f"for {user_id}")


def build_request(**fields: Any) -> RecommendRequest:
    """Raises `BadParameter` for a value that is not allowed."""
    try:
        return RecommendRequest.model_validate(fields)
    except ValidationError as error:
        raise typer.BadParameter(reasons(error)) from error


async def items_of(service: Service, ranking: Ranking) -> dict[str, Item]:
    """The ranked items and those that reasons cite, by id."""
    ids = [item_id for row in ranking.items for item_id in (row.item_id, *row.evidence)]
    return await service.records.items(ids)


def print_ranking(ranking: Ranking, items: dict[str, Item], title: str) -> None:
    """A ranking as a table, and below it how it was made."""
    table = Table(title=title, title_justify="left", show_lines=False, expand=True)
    ratios = {"#": None, "title": 3, "year": None, "score": None, "why": 5, "cites": 3}
    for name, ratio in ratios.items():
        table.add_column(name, ratio=ratio)
    for row in ranking.items:
        item = items.get(row.item_id)
        cited = ", ".join(items[item_id].title for item_id in row.evidence if item_id in items)
        table.add_row(
            str(row.rank),
            escape(row.title or row.item_id),
            str(item.attributes.get("year", "")) if item else "",
            f"{row.score:.3f}",
            escape(row.reason or ""),
            escape(cited),
        )
    console.print(table)
    console.print(f"[dim]{_describe_work(ranking)}[/]")
    if ranking.degraded:
        steps = f"{ranking.degraded.from_} → {ranking.degraded.to}"
        console.print(f"[yellow]degraded: {ranking.degraded.reason}, {steps}[/]")
    for warning in ranking.warnings:
        console.print(f"[yellow]{escape(warning)}[/]")


def _describe_work(ranking: Ranking) -> str:
    """Strategy, model, tokens, time and id of a ranking."""
    usage = ranking.usage
    used = f"{ranking.strategy}" + (f" by {ranking.model}" if ranking.model else ", no model")
    tokens = (
        f"{usage.prompt_tokens} tokens read ({usage.cached_tokens} cached), "
        f"{usage.completion_tokens} written"
    )
    parts = (
        used,
        tokens,
        ranking.choice.why if ranking.choice else "",
        f"{ranking.timings.total_ms / 1000:.1f} s",
        ranking.ranking_id,
    )
    return " · ".join(part for part in parts if part)


@prompts.command("list")
def list_prompts(context: typer.Context) -> None:
    """Every prompt with its version and hash."""

    async def read(service: Service) -> list[PromptRef]:
        return [prompt.ref for prompt in service.previewer.prompts()]

    table = Table("id", "version", "sha")
    for ref in run(context.obj, read):
        table.add_row(ref.id, ref.version, ref.sha)
    console.print(table)


@prompts.command()
def preview(
    context: typer.Context,
    user_id: Annotated[str, typer.Argument(help="For whom.")],
    task: Annotated[
        PreviewTask, typer.Option(help="Which prompt; score: what likelihoods are told after.")
    ] = "rank",
    instruction: Annotated[str | None, typer.Option(help="What the person wants now.")] = None,
    model: Annotated[
        str | None, typer.Option(help="To which alias under models; the task's own otherwise.")
    ] = None,
) -> None:
    """What the model would be shown for a user, and how many tokens that is; nothing is sent."""
    request = build_request(user_id=user_id, instruction=instruction)
    shown = run(context.obj, lambda service: service.previewer.preview(request, task, model))
    if not shown.messages:
        console.print(
            f"nothing would be sent: {shown.model} is outside, and this person may not be "
            f"shown to it (allow_hosted: false)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return
    for message in shown.messages:
        console.rule(message["role"])
        console.print(message["content"], markup=False, highlight=False)
    console.rule()
    tokens = (
        "tokens unknown: the model's tokenizer is not here"
        if shown.tokens is None
        else f"{shown.tokens} tokens"
    )
    console.print(f"{shown.prompt.id} {shown.prompt.version} ({shown.prompt.sha}) · {tokens}")
    if shown.leaves:
        counts = ", ".join(f"{count} {kind}" for kind, count in shown.redacted.items())
        console.print(
            f"{shown.model} is outside: redacted {counts or 'nothing'}; attributes and names as "
            f"'privacy' says",
            soft_wrap=True,
        )
