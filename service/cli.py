"""`whyrank`: everything the product does, from a shell. Exit codes: 0 done, 1 failed, 2 wrong
usage."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from typer.core import TyperGroup

from service import __version__
from service.config import Settings
from service.errors import BadRequest, ConfigError, ModelError, WhyrankError, reasons
from service.pipeline import Recommender, build, open_store
from service.schema import (
    ApiKey,
    Capabilities,
    Event,
    ForeignReport,
    Item,
    Moment,
    Ranking,
    RecommendRequest,
    User,
)
from service.schema import Feed as FeedName

if TYPE_CHECKING:
    from service.feeds.files import FeedFile, FileRow


class Clear(TyperGroup):
    """What went wrong and what cures it, in words, whichever command it was; a trace only for
    defects."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except WhyrankError as error:
            errors.print(f"[red]error:[/] {escape(error.message)}", soft_wrap=True, highlight=False)
            raise typer.Exit(2 if isinstance(error, BadRequest) else 1) from error


app = typer.Typer(
    cls=Clear,
    help="Ranks, for one person, what to show next, and says why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
models = typer.Typer(help="Weights of the local models.", no_args_is_help=True)
prompts = typer.Typer(
    help="The prompts in use, and what a model would be shown.", no_args_is_help=True
)
app.add_typer(models, name="models")
app.add_typer(prompts, name="prompts")
keys = typer.Typer(
    help="Who may call the service, for what, how often and until when.", no_args_is_help=True
)
app.add_typer(keys, name="keys")

for plugin in entry_points(group="whyrank.commands"):
    command = plugin.load()
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=plugin.name)
    else:
        app.command(plugin.name)(command)

console = Console()
errors = Console(stderr=True)
CHUNK = 2_000
"""So many rows of a file are stored at once."""
REASONS = 10
"""So many reasons are told why rows were refused."""
SHOWN_ROWS = 3
"""So many rows of a file are shown as they would be taken."""


class FeedOption(StrEnum):
    items = "items"
    users = "users"
    events = "events"


class Format(StrEnum):
    auto = "auto"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    recbole = "recbole"
    movielens = "movielens"
    amazon_reviews = "amazon-reviews"
    personalize_csv = "personalize-csv"
    gorse = "gorse"
    metarank = "metarank"
    personalize = "personalize"


class TimeUnit(StrEnum):
    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"


class ExplainOption(StrEnum):
    none = "none"
    short = "short"
    full = "full"


class ScopeOption(StrEnum):
    read = "read"
    write = "write"
    admin = "admin"


class Task(StrEnum):
    rank = "rank"
    explain = "explain"
    score = "score"


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"whyrank {__version__}")
        raise typer.Exit


@app.callback()
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


def _run(settings: Settings, job: Callable[[Recommender], Any]) -> Any:
    """Run a coroutine function on a recommender made for it."""

    async def whole() -> Any:
        async with _recommender(settings) as recommender:
            return await job(recommender)

    return asyncio.run(whole())


@asynccontextmanager
async def _recommender(settings: Settings) -> AsyncIterator[Recommender]:
    recommender = await build(settings)
    try:
        yield recommender
    finally:
        await recommender.close()


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a step: `step(what, done, total)`; total 0: nobody knows how long."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        known: dict[str, Any] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what)
            bars.update(known[what], completed=done, total=total or None)

        yield step


# ── weights and data ──────────────────────────────────────────────────────────────────────────────


@models.command("list")
def list_models(context: typer.Context) -> None:
    """What is configured, and whether its weights are here."""
    from service.engine.weights import SOURCES

    settings: Settings = context.obj
    table = Table("alias", "model", "licence", "weights", "serves")
    roles = {settings.roles.rank: "rank", settings.roles.explain: "explain"}
    both = settings.roles.rank == settings.roles.explain
    for alias in dict.fromkeys([*settings.models, *SOURCES]):
        source = SOURCES.get(alias)
        path = (
            settings.weights_path(alias)
            if alias in settings.models
            else settings.data / "models" / alias
        )
        name = source.title if source else settings.models[alias].model
        there = alias in settings.models and settings.models[alias].backend in {"openai", "litellm"}
        role = "rank, explain" if both and alias in roles else roles.get(alias, "")
        weights = "at a server" if there else "here" if path.exists() else "not here"
        table.add_row(
            alias, name, source.licence if source else "" if there else "see the hub", weights, role
        )
    console.print(table)


@models.command()
def pull(
    context: typer.Context,
    alias: Annotated[
        str, typer.Argument(help="tiny, small, minilm; tiny-gguf, small-gguf: for llama.cpp.")
    ],
) -> None:
    """Fetch and convert a model's weights; nothing to do if they are here."""
    from service.engine import weights

    settings: Settings = context.obj
    with _progress() as step:
        path = weights.pull(alias, settings.data / "models", step)
    console.print(f"{weights.SOURCES[alias].title} ({weights.SOURCES[alias].licence}) is in {path}")


@models.command()
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

    async def ask(recommender: Recommender) -> dict[str, Capabilities | ModelError]:
        found: dict[str, Capabilities | ModelError] = {}
        for one in aliases:
            with console.status(f"asking {one} …"):
                try:
                    found[one] = await recommender.probe(one, anew=True)
                except ModelError as error:
                    found[one] = error
        return found

    found = _run(settings, ask)
    able = {one: result for one, result in found.items() if isinstance(result, Capabilities)}
    if able:
        table = Table("", *able)
        for name, told in ABILITIES.items():
            table.add_row(told, *(_told(getattr(one, name)) for one in able.values()))
        console.print(table)
    for one, result in found.items():
        if isinstance(result, ModelError):
            errors.print(f"[red]{escape(one)}:[/] {result.code}: {escape(result.message)}")
    if len(able) < len(found):
        raise typer.Exit(1)


ABILITIES = {
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


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "[green]yes[/]" if value else "[red]no[/]"
    return "unknown" if value is None else f"{value}"


@app.command()
def data(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="movielens-100k, groceries or books; or sample.")
    ] = "movielens-100k",
    sample: Annotated[
        str | None, typer.Argument(help="After sample: which one; without it they are listed.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the CSV files of a sample; else ./SAMPLE.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="What a sample is made from: another seed, other events.")
    ] = 1,
) -> None:
    """Fetch a data set as feeds that `ingest` reads, or make invented data to try things on.

    whyrank data movielens-100k          into the data folder, as JSON lines

    whyrank data sample                  which samples there are

    whyrank data sample shop --out shop  products.csv, people.csv and events.csv of an invented shop
    """
    if name == "sample":
        _sample(sample, out, seed)
        return
    if sample is not None:
        raise typer.BadParameter(f"{name} {sample}: only 'sample' takes another name")
    from service.engine import feeds

    settings: Settings = context.obj
    with _progress() as step:
        path = feeds.pull(name, settings.data, step)
    console.print(f"{path}\n[dim]{escape(feeds.SETS[name].terms)}[/]")


def _sample(name: str | None, out: Path | None, seed: int) -> None:
    from service import samples

    if name is None:
        table = Table("sample", "holds")
        for known, sample in samples.SAMPLES.items():
            table.add_row(known, sample.holds)
        console.print(table)
        return
    for path, rows in samples.write(name, out or Path(name), seed).items():
        console.print(f"{path}: {rows} rows")


@app.command()
def ingest(
    context: typer.Context,
    feed: Annotated[FeedOption | None, typer.Argument(help="What the file holds.")] = None,
    file: Annotated[
        str | None,
        typer.Argument(
            help="A table, JSON or Parquet; may be .gz, FILE.zip:MEMBER, or - for standard input."
        ),
    ] = None,
    format: Annotated[  # noqa: A002  the option's name
        Format, typer.Option(help="Of the file; auto tells by its beginning.")
    ] = Format.auto,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="OURS=THEIRS", help="Our field, or an attribute, from their column."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OURS=VALUE", help="One value for all rows."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Leave it out; '*': all that we have no field for."),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same as YAML: map, set, drop, time_unit, …"),
    ] = None,
    time_unit: Annotated[
        TimeUnit | None, typer.Option(help="Of times that are numbers; without it milliseconds.")
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Of times that name none, as Europe/Berlin.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Between columns; without it found out.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="As latin-1 or gb18030; without it UTF-8.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", help="What the file rates by, as 0.5:5 or 1:10."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be taken and refused; store nothing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad row, and exit with 1.")
    ] = False,
    re_embed: Annotated[
        bool,
        typer.Option(
            "--re-embed",
            help="Embed all items anew: after the embedder changed, or vectors were damaged.",
        ),
    ] = False,
    re_index: Annotated[
        bool,
        typer.Option(
            "--re-index",
            help="Make the indexes of the items anew: after a file of one was damaged.",
        ),
    ] = False,
) -> None:
    """Take items, users or events from a file. Bad rows are reported, kept in FILE.rejected.jsonl,
    and stop nothing else.

    Known by their beginning, or by --format: JSON lines or an array, CSV with any separator,
    Parquet, RecBole's atomic files, MovieLens, Amazon reviews, Amazon Personalize's bulk CSV and
    its API's bodies, and what Gorse and Metarank take.

    Any other table by a mapping, as whyrank ingest events ratings.csv --map user_id=uid --map
    item_id=film --map value=stars --set type=rating --time-unit s

    Columns of items and users that are no field of ours become attributes; '|' splits lists; NULL,
    NaN, NA and empty cells are no values. Items are embedded before this returns.
    """
    settings: Settings = context.obj
    if re_index:
        _run(settings, _re_index)
    if re_embed:
        asyncio.run(_re_embed(settings))
    if (re_index or re_embed) and feed is None:
        return
    if feed is None or file is None:
        raise typer.BadParameter(
            "which feed from which file? as in: whyrank ingest items films.jsonl"
        )
    from service.feeds.files import open_feed
    from service.feeds.mapping import FileMapping

    options = {
        "map": _pairs("--map", map_),
        "set": _pairs("--set", set_),
        "drop": frozenset(drop or ()),
        "time_unit": time_unit.value if time_unit else None,
        "time_zone": time_zone,
        "delimiter": delimiter,
        "encoding": encoding,
        "scale": scale,
    }
    meanings = settings.events.of(settings.service.domain)
    scales = {
        name: meaning.scale for name, meaning in meanings.items() if meaning.scale is not None
    }
    job = _dry_run if dry_run else _ingest
    with open_feed(
        file, feed.value, format.value, FileMapping.made(mapping, options), scales
    ) as opened:
        if format is Format.auto and opened.format not in {"jsonl", "csv", "parquet"}:
            console.print(
                f"format: {opened.format}, by its beginning (--format says another)",
                highlight=False,
            )
        rejected = _run(
            settings, lambda recommender: job(recommender, feed.value, opened, strict=strict)
        )
    if strict and rejected:
        raise typer.Exit(1)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Of `a=b`. Raises for what is no such pair."""
    pairs = [pair.partition("=") for pair in given or ()]
    if wrong := next(
        (f"{name}{sign}{value}" for name, sign, value in pairs if not (name and value)), None
    ):
        raise typer.BadParameter(
            f"{option} {wrong}: NAME=VALUE is needed, as {option} "
            f"{'title=name' if option == '--map' else 'type=rating'}"
        )
    return {name: value for name, _, value in pairs}


async def _re_embed(settings: Settings) -> None:
    recommender = await build(settings, re_embed=True)
    try:
        with _progress() as step:
            count = await recommender.embed_pending(
                lambda done, total: step("embedding", done, total)
            )
        await recommender.train()
    finally:
        await recommender.close()
    console.print(f"items: {count} embedded by {recommender.embedding}")


async def _re_index(recommender: Recommender) -> None:
    with console.status("making the indexes anew …"):
        names = await recommender.re_index()
    console.print(f"indexes: made anew of {', '.join(names)}")


async def _ingest(recommender: Recommender, feed: FeedName, file: FeedFile, *, strict: bool) -> int:
    """How many rows were refused."""
    puts = {
        "items": recommender.ingest_items,
        "users": recommender.ingest_users,
        "events": recommender.ingest_events,
    }
    bad: list[tuple[FileRow, str]] = []
    accepted = duplicates = skipped = number = 0
    with _progress() as step:
        for lines in _chunks(file.lines, 1 if strict else CHUNK):
            good = [line for line in lines if line.row is not None]
            bad += [(line, line.reason) for line in lines if line.row is None]
            rows = [line.row for line in good]
            put = (
                partial(recommender.ingest_foreign, file.shape, feed=feed)
                if file.shape
                else puts[feed]
            )
            report = await put(rows, notes=file.notes)
            accepted, duplicates = accepted + report.accepted, duplicates + report.duplicates
            skipped += report.skipped if isinstance(report, ForeignReport) else 0
            bad += [(good[one.index], one.message) for one in report.rejected]
            number = lines[-1].number
            step(feed, number, 0)
            if strict and bad:
                break
        step(feed, number, number)
        if feed == "items":
            await recommender.embed_pending(lambda done, total: step("embedding", done, total))
    if feed != "users" and accepted:
        with console.status("learning who likes what …"):
            await recommender.train()
    _keep_rejected(file, bad)
    _explain_rows(bad, file.notes.sentences())
    told = f"{feed}: {accepted} accepted" + (f", {duplicates} duplicates" if duplicates else "")
    told += f", {skipped} without {feed} skipped" if skipped else ""
    console.print(told + (f", [red]{len(bad)} rejected[/]" if bad else ""))
    return len(bad)


async def _dry_run(
    recommender: Recommender, feed: FeedName, file: FeedFile, *, strict: bool
) -> int:
    """Shows the first rows as they would be taken, and how many would be refused and why."""
    first: list[Item | User | Event] = []
    bad: list[tuple[FileRow, str]] = []
    taken = 0
    with _progress() as step:
        for lines in _chunks(file.lines, CHUNK):
            good = [line for line in lines if line.row is not None]
            bad += [(line, line.reason) for line in lines if line.row is None]
            rows, refused = recommender.check_rows(
                feed, [line.row for line in good], file.notes, file.shape
            )
            bad += [(good[one.index], one.message) for one in refused]
            taken += len(rows)
            first += rows[: SHOWN_ROWS - len(first)]
            step(feed, lines[-1].number, 0)
            if strict and bad:
                break
    for row in first:
        console.print_json(row.model_dump_json(exclude_defaults=True))
    _explain_rows(bad, file.notes.sentences())
    console.print(
        f"{feed}: {taken} would be taken"
        + (f", [red]{len(bad)} refused[/]" if bad else "")
        + "; nothing is stored"
    )
    return len(bad)


def _chunks(lines: Iterator[FileRow], size: int) -> Iterator[list[FileRow]]:
    while chunk := list(islice(lines, size)):
        yield chunk


def _keep_rejected(file: FeedFile, bad: list[tuple[FileRow, str]]) -> None:
    """Bad rows, whole, in a file beside the feed; a clean run leaves none."""
    file.rejected.unlink(missing_ok=True)
    if bad:
        with file.rejected.open("w", encoding="utf-8") as out:
            for line, reason in sorted(bad, key=lambda one: one[0].number):
                out.write(
                    json.dumps(
                        {"line": line.number, "reason": reason, "source": line.source},
                        ensure_ascii=False,
                    )
                    + "\n"
                )
        errors.print(
            f"[yellow]{len(bad)} bad rows, all of them in[/] {escape(str(file.rejected))}",
            soft_wrap=True,
        )


def _explain_rows(bad: list[tuple[FileRow, str]], warnings: list[str]) -> None:
    """Why rows were refused, the commonest reasons first, and what the others were taken for.
    Reasons that differ in numbers only are one."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for line, reason in bad:
        kinds.setdefault(re.sub(r"\d+", "0", reason), []).append((line.number, reason))
    for rows in sorted(kinds.values(), key=len, reverse=True)[:REASONS]:
        number, reason = min(rows)
        where = (
            f"line {number}" if len(rows) == 1 else f"{len(rows)} rows, the first in line {number}"
        )
        errors.print(f"[yellow]{where}:[/] {escape(reason)}", soft_wrap=True, highlight=False)
    if len(kinds) > REASONS:
        errors.print(f"[yellow]and {len(kinds) - REASONS} other reasons[/]")
    for sentence in warnings:
        errors.print(f"[yellow]note:[/] {escape(sentence)}", soft_wrap=True, highlight=False)


# ── serving ───────────────────────────────────────────────────────────────────────────────────────


@app.command(context_settings={"allow_interspersed_args": False})
def engine(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Stop when this command, which needs the engine, ends."),
    ] = None,
) -> None:
    """Start the local language model server and keep it until Ctrl-C, or for as long as a command
    runs.

    whyrank engine whyrank eval run suite.yaml --out results
    """
    if command and shutil.which(command[0]) is None:
        raise typer.BadParameter(f"no such command: {command[0]}")
    with _until_stopped(), _engine(context.obj) as process:
        if command:
            raise typer.Exit(subprocess.run(command, check=False).returncode)
        code = process.wait()
        errors.print(f"[red]the engine stopped with code {code}[/]")
        raise typer.Exit(1)


@app.command()
def serve(context: typer.Context) -> None:
    """Start the HTTP service; the engine may run elsewhere, or not at all (then the prior
    ranks)."""
    with _until_stopped():
        _serve(context.obj)


@app.command()
def up(context: typer.Context) -> None:
    """Engine and service together; Ctrl-C stops both."""
    with _until_stopped(), _engine(context.obj):
        _serve(context.obj)


@contextmanager
def _engine(settings: Settings) -> Iterator[Any]:
    from service.engine import server

    alias, model = server.served(settings)
    with console.status(f"starting vLLM with {alias} …") as status:
        running = server.running(
            settings, lambda seconds: status.update(f"starting vLLM with {alias} … {seconds:.0f} s")
        )
        process = running.__enter__()
    console.print(f"vLLM serves {alias} at {model.base_url} (log: {settings.data / 'engine.log'})")
    try:
        yield process
    finally:
        with console.status("stopping vLLM …"):
            running.__exit__(None, None, None)


@contextmanager
def _until_stopped() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what the block started is stopped with it."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _serve(settings: Settings) -> None:
    """Until it is stopped. What keeps it from starting is an error in the log, and exit code 1."""
    from service.telemetry import Telemetry, json_logs

    with json_logs():
        try:
            _listen(settings)
        except WhyrankError as error:
            Telemetry().log.error("not_started", code=error.code, error=error.message)
            raise typer.Exit(1) from error


def _listen(settings: Settings) -> None:
    import uvicorn

    from service.api import create_app

    prepared: list[Recommender] = []

    async def take(_settings: Settings) -> Recommender:
        return prepared.pop()

    service = settings.service
    config = uvicorn.Config(
        create_app(settings, take),
        host=service.host,
        port=service.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(service.deadline_ms / 1000) + 5,
    )
    server = uvicorn.Server(config)

    async def start() -> None:
        prepared.append(
            await _prepared(settings)
        )  # before uvicorn, which would log what is wrong as a trace
        console.print(
            f"whyrank on http://{service.host}:{service.port}  (API: /docs, readiness: /readyz)"
        )
        await server.serve()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(start())
    if not server.started:
        raise ConfigError(f"the service could not start on {service.host}:{service.port}")


async def _prepared(settings: Settings) -> Recommender:
    """A recommender that has read of every part and loaded what the first requests need."""
    recommender = await build(settings)
    try:
        await recommender.prepare()
    except WhyrankError:
        await recommender.close()
        raise
    return recommender


# ── who may call ──────────────────────────────────────────────────────────────────────────────────


@keys.command()
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
        until = None if expires is None else _until(expires)
        scopes = tuple(one.value for one in dict.fromkeys(scope))
        key = ApiKey(name=name, scopes=scopes, rate=rate, budget=budget, expires_at=until)
    except ValidationError as error:
        raise typer.BadParameter(reasons(error)) from error
    with closing(open_store(context.obj)) as store:
        secret = asyncio.run(store.keys.create(key))
    errors.print(f"The key of {escape(name)}; it is not shown again:")
    typer.echo(secret)


def _until(text: str) -> datetime:
    """In so many days, or a time as events have it."""
    now = datetime.now(UTC)
    days = re.fullmatch(r"([0-9]{1,5})d", text)
    try:
        until = (
            now + timedelta(days=int(days[1]))
            if days
            else TypeAdapter(Moment).validate_python(text)
        )
    except ValidationError as error:
        raise typer.BadParameter(
            f"--expires {text}: as 30d, or as 2027-01-31T12:00Z: {reasons(error)}"
        ) from error
    if until <= now:
        raise typer.BadParameter(f"--expires {text} is not in the future")
    return until


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """Every key there ever was, without its secret."""
    now = datetime.now(UTC)
    with closing(open_store(context.obj)) as store:
        found = asyncio.run(store.keys.all())
    table = Table("name", "scopes", "a minute", "$ a day", "made", "expires", "")
    for key in found:
        state = (
            "[green]valid[/]"
            if key.valid(now)
            else "[red]revoked[/]"
            if key.revoked_at
            else "[yellow]expired[/]"
        )
        until = f"{key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "never"
        bounds = str(key.rate or ""), "" if key.budget is None else f"{key.budget:g}"
        table.add_row(
            escape(key.name),
            " ".join(key.scopes),
            *bounds,
            f"{key.created_at:%Y-%m-%d}",
            until,
            state,
        )
    console.print(table)


@keys.command()
def revoke(context: typer.Context, name: Annotated[str, typer.Argument(help="As listed.")]) -> None:
    """Make a key worthless, at once and for good."""
    with closing(open_store(context.obj)) as store:
        asyncio.run(store.keys.revoke(name, datetime.now(UTC)))
    console.print(f"{escape(name)} is revoked")


# ── asking ────────────────────────────────────────────────────────────────────────────────────────


@app.command()
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
        ExplainOption, typer.Option(help="Reasons: none, short, or full with all signals.")
    ] = ExplainOption.short,
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")] = False,
) -> None:
    """The ranked, justified list for a user."""
    request = _request(
        user_id=user_id,
        top_n=top_n,
        strategy=strategy,
        instruction=instruction,
        explain=explain.value,
    )

    async def ask(recommender: Recommender) -> tuple[Ranking, dict[str, Item]]:
        ranking = await recommender.recommend(request)
        return ranking, await recommender.items(
            cited for item in ranking.items for cited in (item.item_id, *item.evidence)
        )

    ranking, items = _run(context.obj, ask)
    if as_json:
        typer.echo(ranking.model_dump_json(indent=2))
    else:
        _show(ranking, items, f"for {user_id}")


def _request(**fields: Any) -> RecommendRequest:
    try:
        return RecommendRequest.model_validate(fields)
    except ValidationError as error:
        raise typer.BadParameter(reasons(error)) from error


def _show(ranking: Ranking, items: dict[str, Item], title: str) -> None:
    """A ranking as a table, with what was used below it."""
    table = Table(title=title, title_justify="left", show_lines=False, expand=True)
    for name, ratio in (
        ("#", None),
        ("title", 3),
        ("year", None),
        ("score", None),
        ("why", 5),
        ("cites", 3),
    ):
        table.add_column(name, ratio=ratio)
    for row in ranking.items:
        item = items.get(row.item_id)
        cited = ", ".join(items[one].title for one in row.evidence if one in items)
        year = str(item.attributes.get("year", "")) if item else ""
        table.add_row(
            str(row.rank),
            escape(row.title or row.item_id),
            year,
            f"{row.score:.3f}",
            escape(row.reason or ""),
            escape(cited),
        )
    console.print(table)
    usage, times = ranking.usage, ranking.timings
    used = f"{ranking.strategy}" + (f" by {ranking.model}" if ranking.model else ", no model")
    told = (
        f"{used} · {usage.prompt_tokens} tokens read ({usage.cached_tokens} cached), "
        f"{usage.completion_tokens} written"
    )
    if ranking.choice is not None and ranking.choice.why:
        told += f" · {ranking.choice.why}"
    console.print(f"[dim]{told} · {times.total_ms / 1000:.1f} s · {ranking.ranking_id}[/]")
    if ranking.degraded:
        gone = ranking.degraded
        console.print(f"[yellow]degraded: {gone.reason}, {gone.from_} → {gone.to}[/]")
    for warning in ranking.warnings:
        console.print(f"[yellow]{escape(warning)}[/]")


@prompts.command("list")
def list_prompts(context: typer.Context) -> None:
    """Every prompt with its version and hash."""
    table = Table("id", "version", "sha")

    async def ask(recommender: Recommender) -> list[Any]:
        return [prompt.ref for prompt in recommender.prompts()]

    for ref in _run(context.obj, ask):
        table.add_row(ref.id, ref.version, ref.sha)
    console.print(table)


@prompts.command()
def preview(
    context: typer.Context,
    user_id: Annotated[str, typer.Argument(help="For whom.")],
    task: Annotated[
        Task, typer.Option(help="Which prompt; score: what likelihoods are told after.")
    ] = Task.rank,
    instruction: Annotated[str | None, typer.Option(help="What the person wants now.")] = None,
    model: Annotated[
        str | None, typer.Option(help="To which alias under models; the task's own otherwise.")
    ] = None,
) -> None:
    """What the model would be shown for a user, and how many tokens that is; nothing is sent."""
    request = _request(user_id=user_id, instruction=instruction)
    shown = _run(context.obj, lambda recommender: recommender.preview(request, task.value, model))
    if not shown.messages:
        told = (
            f"nothing would be sent: {shown.model} is outside, and this person may not be "
            f"shown to it (allow_hosted: false)"
        )
        console.print(told, markup=False, highlight=False, soft_wrap=True)
        return
    for message in shown.messages:
        console.rule(message["role"])
        console.print(message["content"], markup=False, highlight=False)
    console.rule()
    count = (
        f"{shown.tokens} tokens"
        if shown.tokens is not None
        else "tokens unknown: the model's tokenizer is not here"
    )
    console.print(f"{shown.prompt.id} {shown.prompt.version} ({shown.prompt.sha}) · {count}")
    if shown.leaves:
        taken = ", ".join(f"{many} {kind}" for kind, many in shown.redacted.items()) or "nothing"
        console.print(
            f"{shown.model} is outside: redacted {taken}; attributes and names as 'privacy' says",
            soft_wrap=True,
        )


@app.command()
def doctor(context: typer.Context) -> None:
    """Check every part, and say what to do about what is wrong. Exit code 1 if something is."""
    from service.diagnostics import diagnose

    settings: Settings = context.obj
    table = Table("part", "", "")
    alone = "" if settings.models else ", no models: the prior ranks alone"
    table.add_row(
        "configuration",
        OK,
        escape(f"domain {settings.service.domain}, data in {settings.data}{alone}"),
    )
    parts = _weights(settings) | asyncio.run(diagnose(settings))
    for name, part in parts.items():
        table.add_row(
            escape(name), OK if part["ok"] else NO, escape(_findings(settings, name, part))
        )
    console.print(table)
    if not all(part["ok"] for part in parts.values()):
        raise typer.Exit(1)


OK, NO = "[green]ok[/]", "[red]no[/]"


def _weights(settings: Settings) -> dict[str, dict[str, Any]]:
    """Are those of the engine's model here?"""
    alias = settings.served
    if alias not in settings.models or settings.models[alias].backend != "vllm":
        return {}
    path, model = settings.weights_path(alias), settings.models[alias].model
    if path.exists():
        return {"weights": {"ok": True, "folder": path}}
    if "/" in model:
        return {"weights": {"ok": True, "hub": f"vLLM fetches {model} itself"}}
    return {"weights": {"ok": False, "why": f"not here: whyrank models pull {alias}"}}


def _findings(settings: Settings, name: str, part: dict[str, Any]) -> str:
    """What a part says of itself, why it is not ready, and what to do."""
    told = ", ".join(
        f"{key} {value}" for key, value in part.items() if key not in {"ok", "why", "capabilities"}
    )
    if part["ok"]:
        return told
    ours = name.startswith("model:") and settings.models[part["alias"]].backend == "vllm"
    cure = "; 'whyrank up' starts the engine" if ours else ""
    return f"{told}: {part['why']}{cure}" if told else f"{part['why']}{cure}"


async def _with_recommender(settings: Settings, job: Callable[[Recommender], Any]) -> Any:
    async with _recommender(settings) as recommender:
        return await job(recommender)


# ── the demonstration ─────────────────────────────────────────────────────────────────────────────

DEMO = {"366": "horror", "904": "romance", "127": "science fiction"}


@app.command()
def demo(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="small (1.5B) or tiny (135M).")] = "small",
) -> None:
    """The whole job on real films: fetch, ingest, start vLLM, rank and justify for three people,
    stop."""
    from service.engine import feeds, weights

    start = time.monotonic()
    settings = _with_model(context.obj, model)
    with _until_stopped():
        with _progress() as step:
            for alias in dict.fromkeys(["minilm", model, *_in_process(settings)]):
                weights.pull(alias, settings.data / "models", step)
            films = feeds.pull("movielens-100k", settings.data, step)
        asyncio.run(_with_recommender(settings, lambda recommender: _fill(recommender, films)))
        with _engine(settings):
            asyncio.run(_with_recommender(settings, _three))
    console.print(
        f"[dim]{time.monotonic() - start:.0f} s in all. {feeds.SETS['movielens-100k'].terms}.[/]"
    )
    console.print(
        "Next: [bold]make up[/] serves it on http://127.0.0.1:8080; the README sends it an event."
    )


def _in_process(settings: Settings) -> list[str]:
    """Whose weights are needed for likelihoods, if they are told in this process."""
    score = settings.models[settings.roles.score] if settings.roles.score else None
    return (
        [score.model]
        if score is not None and score.backend == "local" and score.path is None
        else []
    )


def _with_model(settings: Settings, alias: str) -> Settings:
    """The same settings with one alias in every role."""
    if alias not in settings.models:
        raise typer.BadParameter(f"no model {alias!r}; configured: {', '.join(settings.models)}")
    changed = {
        "roles": settings.roles.model_copy(update={"rank": alias, "explain": alias}),
        "engine": settings.engine.model_copy(update={"model": alias}),
    }
    return settings.model_copy(update=changed)


async def _fill(recommender: Recommender, films: Path) -> None:
    """Ingest the feeds; what is already there is found out by the log itself, which takes nothing
    twice."""
    from service.feeds.files import open_feed

    stamp = recommender.settings.data / ".movielens.ingested"
    if not stamp.exists():
        for feed in ("items", "users", "events"):
            with open_feed(films / f"{feed}.jsonl", feed) as file:
                await _ingest(recommender, feed, file, strict=False)
        stamp.touch()


async def _three(recommender: Recommender) -> None:
    """Three people of different taste, asked for at once."""
    requests = [RecommendRequest(user_id=user, top_n=5, deadline_ms=300_000) for user in DEMO]
    with console.status("ranking for three people at once …"):
        rankings = await asyncio.gather(*(recommender.recommend(request) for request in requests))
    for (user, taste), ranking in zip(DEMO.items(), rankings, strict=True):
        ids = [cited for item in ranking.items for cited in (item.item_id, *item.evidence)]
        _show(ranking, await recommender.items(ids), f"user {user}, who likes {taste}")


if __name__ == "__main__":
    app()
