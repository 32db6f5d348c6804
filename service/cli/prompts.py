"""`whyrank prompts`: which prompts there are, and what a model is shown."""

from typing import Annotated

import typer
from rich.table import Table

from service.build import Service
from service.cli.ranking import build_request
from service.cli.shell import console, run
from service.preview import PreviewTask
from service.schema import PromptRef

app = typer.Typer(help="The prompts in use, and what a model would be shown.", no_args_is_help=True)


@app.command("list")
def list_prompts(context: typer.Context) -> None:
    """Every prompt with its version and hash."""

    async def read(service: Service) -> list[PromptRef]:
        return [prompt.ref for prompt in service.previewer.prompts()]

    table = Table("id", "version", "sha")
    for ref in run(context.obj, read):
        table.add_row(ref.id, ref.version, ref.sha)
    console.print(table)


@app.command()
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
