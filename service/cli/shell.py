"""What the commands share: the consoles, settings, errors, a service, progress bars."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from typer.core import TyperGroup

from service import __version__
from service.build import Service, build
from service.config import Settings
from service.errors import BadRequest, WhyrankError

T = TypeVar("T")
Step = Callable[[str, int, int], None]
"""`step(label, done, total)` moves the progress bar of this label; total 0: unknown."""

console = Console()
errors = Console(stderr=True)


class ErrorReporter(TyperGroup):
    """Commands whose known errors are printed in one sentence, with the exit code; other exceptions
    are defects and keep their trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except WhyrankError as error:
            errors.print(f"[red]error:[/] {escape(error.message)}", soft_wrap=True, highlight=False)
            raise typer.Exit(2 if isinstance(error, BadRequest) else 1) from error


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"whyrank {__version__}")
        raise typer.Exit


def main(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration file; else $WHYRANK_CONFIG, else configs/cpu.yaml."),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Which whyrank this is.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Settings are read once, here; every command gets them."""
    if context.invoked_subcommand is not None:
        context.obj = Settings.load(config)


def run(settings: Settings, job: Callable[[Service], Awaitable[T]], *, re_embed: bool = False) -> T:
    """Builds a service, runs a coroutine function on it, and closes it. `re_embed`: as in
    `build`."""

    async def run_and_close() -> T:
        service = await build(settings, re_embed=re_embed)
        try:
            return await job(service)
        finally:
            await service.close()

    return asyncio.run(run_and_close())


@contextmanager
def progress() -> Iterator[Step]:
    """A progress bar for every label that a step has."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def step(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label)
            bars.update(tasks[label], completed=done, total=total or None)

        yield step
