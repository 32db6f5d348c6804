"""`whyrank keys`: who may call the service."""

import asyncio
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape
from rich.table import Table

from service.build import open_store
from service.cli.shell import console, errors
from service.errors import reasons
from service.schema import ApiKey, Moment

app = typer.Typer(
    help="Who may call the service, for what, how often and until when.", no_args_is_help=True
)

ScopeOption = StrEnum("ScopeOption", "read write admin")
"""A `KeyScope`; Typer knows no lists of literals."""


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose key it is, as you will look for it.")],
    scope: Annotated[
        list[ScopeOption],
        typer.Option(help="read: ask; write: feeds; admin: all. Give it again for another."),
    ],
    rate: Annotated[int | None, typer.Option(help="Requests a minute; else limits.rate.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="Dollars a day that models may cost on its account.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="After so many days, as 30d, or at a time, as 2027-01-31T12:00Z."),
    ] = None,
) -> None:
    """Make a key and print it, this once: what is kept is its hash. From now on every request needs
    one."""
    try:
        expires_at = None if expires is None else _parse_expiry(expires)
        scopes = tuple(option.value for option in dict.fromkeys(scope))
        key = ApiKey(name=name, scopes=scopes, rate=rate, budget=budget, expires_at=expires_at)
    except ValidationError as error:
        raise typer.BadParameter(reasons(error)) from error
    with closing(open_store(context.obj)) as store:
        secret = asyncio.run(store.keys.create(key))
    errors.print(f"The key of {escape(name)}; it is not shown again:")
    typer.echo(secret)


def _parse_expiry(text: str) -> datetime:
    """Returns a time in the future. `text`: a number of days from now, as 30d, or a time in a
    format that events may have. Raises `BadParameter` for any other text, and for a time in the
    past."""
    now = datetime.now(UTC)
    days = re.fullmatch(r"([0-9]{1,5})d", text)
    try:
        expires_at = (
            now + timedelta(days=int(days[1]))
            if days
            else TypeAdapter(Moment).validate_python(text)
        )
    except ValidationError as error:
        raise typer.BadParameter(
            f"--expires {text}: as 30d, or as 2027-01-31T12:00Z: {reasons(error)}"
        ) from error
    if expires_at <= now:
        raise typer.BadParameter(f"--expires {text} is not in the future")
    return expires_at


@app.command("list")
def list_keys(context: typer.Context) -> None:
    """Every key there ever was, without its secret."""
    now = datetime.now(UTC)
    with closing(open_store(context.obj)) as store:
        stored_keys = asyncio.run(store.keys.all())
    table = Table("name", "scopes", "a minute", "$ a day", "made", "expires", "")
    for key in stored_keys:
        state = (
            "[green]valid[/]"
            if key.valid(now)
            else "[red]revoked[/]"
            if key.revoked_at
            else "[yellow]expired[/]"
        )
        table.add_row(
            escape(key.name),
            " ".join(key.scopes),
            str(key.rate or ""),
            "" if key.budget is None else f"{key.budget:g}",
            f"{key.created_at:%Y-%m-%d}",
            f"{key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "never",
            state,
        )
    console.print(table)


@app.command()
def revoke(context: typer.Context, name: Annotated[str, typer.Argument(help="As listed.")]) -> None:
    """Make a key worthless, at once and for good."""
    with closing(open_store(context.obj)) as store:
        asyncio.run(store.keys.revoke(name, datetime.now(UTC)))
    console.print(f"{escape(name)} is revoked")
