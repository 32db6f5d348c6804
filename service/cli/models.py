"""`whyrank models`: weights of the local models, and what models can do."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from service.build import Service
from service.cli.shell import console, errors, progress, run
from service.config import Settings
from service.errors import ModelError
from service.schema import Capabilities

app = typer.Typer(help="Weights of the local models.", no_args_is_help=True)

CAPABILITY_LABELS = {
    "grammar": "a grammar is obeyed",
    "json_schema": "a JSON schema is",
    "token_logprobs": "log-probabilities by token id",
    "top_logprobs": "log-probabilities at once",
    "prompt_logprobs": "log-probabilities of a prompt",
    "context": "tokens it can hold",
    "cached_tokens": "cached tokens are reported",
    "read_tps": "tokens read a second",
    "write_tps": "tokens written a second",
}


@app.command("list")
def list_models(context: typer.Context) -> None:
    """List the configured models, and whether their weights are on this machine."""
    from service.engine.fetch import WEIGHTS

    settings: Settings = context.obj
    table = Table("alias", "model", "licence", "weights", "serves")
    for alias in dict.fromkeys([*settings.models, *WEIGHTS]):
        source, model = WEIGHTS.get(alias), settings.models.get(alias)
        path = settings.data / "models" / alias if model is None else settings.weights_path(alias)
        remote = model is not None and model.backend in {"openai", "litellm"}
        table.add_row(
            alias,
            source.title if source else settings.models[alias].model,
            source.licence if source else "" if remote else "see the hub",
            "at a server" if remote else "here" if path.exists() else "not here",
            ", ".join(
                role for role in ("rank", "explain") if getattr(settings.roles, role) == alias
            ),
        )
    console.print(table)


@app.command()
def pull(
    context: typer.Context,
    alias: Annotated[
        str,
        typer.Argument(
            help="tiny, small; minilm: embeds English; tiny-gguf, small-gguf: for llama.cpp."
        ),
    ],
) -> None:
    """Fetch and convert a model's weights; nothing to do if they are here."""
    from service.engine import fetch

    with progress() as step:
        path = fetch.pull_weights(alias, context.obj.data / "models", step)
    console.print(f"{fetch.WEIGHTS[alias].title} ({fetch.WEIGHTS[alias].licence}) is in {path}")


@app.command()
def probe(
    context: typer.Context,
    alias: Annotated[
        str | None, typer.Argument(help="A configured model; else all that have a role.")
    ] = None,
) -> None:
    """Ask models for what they would never do unasked, and show what they can do. Exit code 1 if
    one doesn't answer."""
    settings: Settings = context.obj
    if alias is not None and alias not in settings.models:
        raise typer.BadParameter(f"no model {alias!r}; configured: {', '.join(settings.models)}")
    roles = settings.roles.model_dump(exclude_none=True).values()
    aliases = [alias] if alias else list(dict.fromkeys([*roles, *settings.fallback]))
    if not aliases:
        console.print("no models are configured: there is nothing to ask")
    results = run(settings, lambda service: _probe_all(service, aliases))
    capabilities = {
        name: result for name, result in results.items() if isinstance(result, Capabilities)
    }
    if capabilities:
        table = Table("", *capabilities)
        for field, label in CAPABILITY_LABELS.items():
            table.add_row(
                label,
                *(_format_capability(getattr(able, field)) for able in capabilities.values()),
            )
        console.print(table)
    for name, result in results.items():
        if isinstance(result, ModelError):
            errors.print(f"[red]{escape(name)}:[/] {result.code}: {escape(result.message)}")
    if len(capabilities) < len(results):
        raise typer.Exit(1)


async def _probe_all(service: Service, aliases: list[str]) -> dict[str, Capabilities | ModelError]:
    """Asks each model anew what it can do. Returns, by alias, its capabilities, or the error if it
    could not be asked."""
    results: dict[str, Capabilities | ModelError] = {}
    for alias in aliases:
        with console.status(f"asking {alias} …"):
            try:
                results[alias] = await service.models.probe(alias, anew=True)
            except ModelError as error:
                results[alias] = error
    return results


def _format_capability(value: object) -> str:
    if isinstance(value, bool):
        return "[green]yes[/]" if value else "[red]no[/]"
    return "unknown" if value is None else f"{value}"
