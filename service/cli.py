"""`whyrank`: everything the product does, from a shell. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer.core import TyperGroup

from service.config import Settings
from service.errors import BadRequest, ConfigError, ModelError, WhyrankError, reasons
from service.pipeline import Recommender, build, open_store
from service.schema import ApiKey, Capabilities, ForeignReport, Item, Moment, Ranking, RecommendRequest, Shape, warnings_of
from service.schema import Feed as FeedName


class Clear(TyperGroup):
    """What went wrong and what cures it, in words, whichever command it was; a trace only for defects."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except WhyrankError as error:
            errors.print(f"[red]error:[/] {escape(error.message)}")
            raise typer.Exit(2 if isinstance(error, BadRequest) else 1) from error


app = typer.Typer(
    cls=Clear,
    help="Ranks, for one person, what to show next, and says why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
models = typer.Typer(help="Weights of the local models.", no_args_is_help=True)
prompts = typer.Typer(help="The prompts in use, and what a model would be shown.", no_args_is_help=True)
app.add_typer(models, name="models")
app.add_typer(prompts, name="prompts")
keys = typer.Typer(help="Who may call the service, for what, how often and until when.", no_args_is_help=True)
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


class Feed(StrEnum):
    items = "items"
    users = "users"
    events = "events"


class Format(StrEnum):
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    gorse = "gorse"
    metarank = "metarank"
    personalize = "personalize"


class Explain(StrEnum):
    none = "none"
    short = "short"
    full = "full"


class Scope(StrEnum):
    read = "read"
    write = "write"
    admin = "admin"


class Task(StrEnum):
    rank = "rank"
    explain = "explain"


@app.callback()
def main(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; else $WHYRANK_CONFIG, else configs/cpu.yaml.")
    ] = None,
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
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bars:
        known: dict[str, Any] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what)
            bars.update(known[what], completed=done, total=total or None)

        yield step


# ── weights and data ────────────────────────────────────────────────────────────────────────────────────────────────


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
        path = settings.weights_path(alias) if alias in settings.models else settings.data / "models" / alias
        name = source.title if source else settings.models[alias].model
        there = alias in settings.models and settings.models[alias].backend in {"openai", "litellm"}
        role = "rank, explain" if both and alias in roles else roles.get(alias, "")
        weights = "at a server" if there else "here" if path.exists() else "not here"
        table.add_row(alias, name, source.licence if source else "" if there else "see the hub", weights, role)
    console.print(table)


@models.command()
def pull(
    context: typer.Context,
    alias: Annotated[str, typer.Argument(help="tiny, small, minilm; tiny-gguf, small-gguf: for llama.cpp.")],
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
    alias: Annotated[str | None, typer.Argument(help="A configured model; else all that have a role.")] = None,
) -> None:
    """Ask models for what they would never do unasked, and show what they can do. Exit code 1 if one doesn't answer."""
    settings: Settings = context.obj
    if alias is not None and alias not in settings.models:
        raise typer.BadParameter(f"no model {alias!r}; configured: {', '.join(settings.models)}")
    roles = settings.roles.model_dump(exclude_none=True).values()
    aliases = [alias] if alias else list(dict.fromkeys([*roles, *settings.fallback]))

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
    name: Annotated[str, typer.Argument(help="movielens-100k, groceries or books.")] = "movielens-100k",
) -> None:
    """Fetch a data set as feeds that `ingest` reads."""
    from service.engine import feeds

    settings: Settings = context.obj
    with _progress() as step:
        path = feeds.pull(name, settings.data, step)
    console.print(f"{path}\n[dim]{escape(feeds.SETS[name].terms)}[/]")


@app.command()
def ingest(
    context: typer.Context,
    feed: Annotated[Feed | None, typer.Argument(help="What the file holds.")] = None,
    file: Annotated[Path | None, typer.Argument(help="JSON lines, CSV or Parquet.")] = None,
    format: Annotated[  # noqa: A002  the flag's name
        Format | None,
        typer.Option(
            help="Of the file, if its name doesn't tell; gorse, metarank, personalize: JSON lines as those systems take them."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line.")] = False,
    re_embed: Annotated[bool, typer.Option("--re-embed", help="Embed all items anew: after the embedder changed.")] = False,
) -> None:
    """Take items, users or events from a file. Bad lines are reported, kept in FILE.rejected.jsonl, and stop nothing else.

    In CSV, columns outside the schema become attributes and '|' splits lists. Items are embedded before this returns.

    A line of another system is one object: what Gorse's API takes, an event of Metarank (a file of all kinds is fine: what is
    not of this feed is skipped), or the body of Amazon Personalize's PutEvents, PutItems or PutUsers.
    """
    if re_embed:
        asyncio.run(_re_embed(context.obj))
        if feed is None:
            return
    if feed is None or file is None:
        raise typer.BadParameter("which feed from which file? as in: whyrank ingest items films.jsonl")
    rejected = _run(context.obj, lambda recommender: _ingest(recommender, feed.value, file, format, strict=strict))
    if strict and rejected:
        raise typer.Exit(1)


async def _re_embed(settings: Settings) -> None:
    recommender = await build(settings, re_embed=True)
    try:
        with _progress() as step:
            count = await recommender.embed_pending(lambda done, total: step("embedding", done, total))
    finally:
        await recommender.close()
    console.print(f"items: {count} embedded by {recommender.embedding}")


async def _ingest(recommender: Recommender, feed: FeedName, file: Path, format_: str | None, *, strict: bool) -> int:
    from service.feeds.files import Line, read

    put = {"items": recommender.ingest_items, "users": recommender.ingest_users, "events": recommender.ingest_events}[feed]
    shape = next((name for name in get_args(Shape) if name == format_), None)
    bad: list[tuple[Line, str]] = []
    accepted = duplicates = skipped = 0
    noticed = Counter[str]()
    waiting: list[Line] = []

    async def flush() -> None:
        nonlocal accepted, duplicates, skipped
        rows = [line.row for line in waiting]
        report = await (recommender.ingest_foreign(shape, rows, feed) if shape else put(rows))
        accepted, duplicates = accepted + report.accepted, duplicates + report.duplicates
        skipped += report.skipped if isinstance(report, ForeignReport) else 0
        noticed.update(report.noticed)
        bad.extend((waiting[one.index], one.message) for one in report.rejected)
        waiting.clear()

    with _progress() as step:
        number = 0
        for number, line in enumerate(read(file, feed, "jsonl" if shape else format_), 1):
            if line.row is None:
                bad.append((line, line.reason))
            else:
                waiting.append(line)
            if len(waiting) >= (1 if strict else CHUNK):
                await flush()
                step(f"{feed}", number, 0)
            if strict and bad:
                break
        if waiting:
            await flush()
        step(f"{feed}", number, number)
        if feed == "items":
            await recommender.embed_pending(lambda done, total: step("embedding", done, total))
    if feed != "users" and accepted:
        with console.status("learning who likes what …"):
            await recommender.train()
    _rejects(file, sorted(bad, key=lambda one: one[0].number))
    for warning in warnings_of(noticed):
        errors.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)
    told = f"{feed}: {accepted} accepted" + (f", {duplicates} duplicates" if duplicates else "")
    told += f", {skipped} without {feed} skipped" if skipped else ""
    console.print(told + (f", [red]{len(bad)} rejected[/]" if bad else ""))
    return len(bad)


def _rejects(file: Path, bad: list[Any]) -> None:
    """Bad lines on the console (the first few) and, whole, in a file beside the feed; a clean run leaves none."""
    target = file.with_name(f"{file.name}.rejected.jsonl")
    target.unlink(missing_ok=True)
    if bad:
        with target.open("w") as out:
            for line, reason in bad:
                out.write(json.dumps({"line": line.number, "reason": reason, "source": line.source}, ensure_ascii=False) + "\n")
        for line, reason in bad[:5]:
            errors.print(f"[yellow]line {line.number}:[/] {escape(reason)}")
        errors.print(f"[yellow]{len(bad)} bad lines, all of them in[/] {target}")


# ── serving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command(context_settings={"allow_interspersed_args": False})
def engine(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(help="Stop when this command, which needs the engine, ends.")] = None,
) -> None:
    """Start the local language model server and keep it until Ctrl-C, or for as long as a command runs.

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
    """Start the HTTP service; the engine may run elsewhere, or not at all (then the prior ranks)."""
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

    alias = settings.engine.model
    with console.status(f"starting vLLM with {alias} …") as status:
        running = server.running(settings, lambda seconds: status.update(f"starting vLLM with {alias} … {seconds:.0f} s"))
        process = running.__enter__()
    console.print(f"vLLM serves {alias} at {settings.models[alias].base_url} (log: {settings.data / 'engine.log'})")
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
    import uvicorn

    from service.api import create_app
    from service.telemetry import log_as_json

    log_as_json()
    service = settings.service
    config = uvicorn.Config(
        create_app(settings),
        host=service.host,
        port=service.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(service.deadline_ms / 1000) + 5,
    )
    console.print(f"whyrank on http://{service.host}:{service.port}  (API: /docs, readiness: /readyz)")
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        raise ConfigError(f"the service could not start on {service.host}:{service.port}")


# ── who may call ────────────────────────────────────────────────────────────────────────────────────────────────────────


@keys.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose key it is, as you will look for it.")],
    scope: Annotated[list[Scope], typer.Option(help="read: ask; write: feeds; admin: all. Give it again for another.")],
    rate: Annotated[int | None, typer.Option(help="Requests a minute; else limits.rate.")] = None,
    budget: Annotated[float | None, typer.Option(help="Dollars a day that models may cost on its account.")] = None,
    expires: Annotated[str | None, typer.Option(help="After so many days, as 30d, or at a time, as 2027-01-31T12:00Z.")] = None,
) -> None:
    """Make a key and print it, this once: what is kept is its hash. From now on every request needs one."""
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
        until = now + timedelta(days=int(days[1])) if days else TypeAdapter(Moment).validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(f"--expires {text}: as 30d, or as 2027-01-31T12:00Z: {reasons(error)}") from error
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
        state = "[green]valid[/]" if key.valid(now) else "[red]revoked[/]" if key.revoked_at else "[yellow]expired[/]"
        until = f"{key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "never"
        bounds = str(key.rate or ""), "" if key.budget is None else f"{key.budget:g}"
        table.add_row(escape(key.name), " ".join(key.scopes), *bounds, f"{key.created_at:%Y-%m-%d}", until, state)
    console.print(table)


@keys.command()
def revoke(context: typer.Context, name: Annotated[str, typer.Argument(help="As listed.")]) -> None:
    """Make a key worthless, at once and for good."""
    with closing(open_store(context.obj)) as store:
        asyncio.run(store.keys.revoke(name, datetime.now(UTC)))
    console.print(f"{escape(name)} is revoked")


# ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def recommend(
    context: typer.Context,
    user_id: Annotated[str, typer.Argument(help="For whom.")],
    top_n: Annotated[int, typer.Option(help="How many.")] = 5,
    strategy: Annotated[str | None, typer.Option(help="auto, likelihood, listwise, …; prior asks no model.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What the person wants now, in words.")] = None,
    explain: Annotated[Explain, typer.Option(help="Reasons: none, short, or full with all signals.")] = Explain.short,
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")] = False,
) -> None:
    """The ranked, justified list for a user."""
    request = _request(user_id=user_id, top_n=top_n, strategy=strategy, instruction=instruction, explain=explain.value)

    async def ask(recommender: Recommender) -> tuple[Ranking, dict[str, Item]]:
        ranking = await recommender.recommend(request)
        return ranking, await recommender.items(cited for item in ranking.items for cited in (item.item_id, *item.evidence))

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
    for name, ratio in (("#", None), ("title", 3), ("year", None), ("score", None), ("why", 5), ("cites", 3)):
        table.add_column(name, ratio=ratio)
    for row in ranking.items:
        item = items.get(row.item_id)
        cited = ", ".join(items[one].title for one in row.evidence if one in items)
        year = str(item.attributes.get("year", "")) if item else ""
        table.add_row(
            str(row.rank), escape(row.title or row.item_id), year, f"{row.score:.3f}", escape(row.reason or ""), escape(cited)
        )
    console.print(table)
    usage, times = ranking.usage, ranking.timings
    used = f"{ranking.strategy}" + (f" by {ranking.model}" if ranking.model else ", no model")
    told = f"{used} · {usage.prompt_tokens} tokens read ({usage.cached_tokens} cached), {usage.completion_tokens} written"
    if ranking.choice is not None and ranking.choice.why:
        told += f" · {ranking.choice.why}"
    console.print(f"[dim]{told} · {times.total_ms / 1000:.1f} s · {ranking.ranking_id}[/]")
    if ranking.degraded:
        gone = ranking.degraded
        console.print(f"[yellow]degraded: {gone.reason}, {gone.from_} → {gone.to}[/]")


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
    task: Annotated[Task, typer.Option(help="Which of the two prompts.")] = Task.rank,
    instruction: Annotated[str | None, typer.Option(help="What the person wants now.")] = None,
    model: Annotated[str | None, typer.Option(help="To which alias under models; the task's own otherwise.")] = None,
) -> None:
    """What the model would be shown for a user, and how many tokens that is; nothing is sent."""
    request = _request(user_id=user_id, instruction=instruction)
    shown = _run(context.obj, lambda recommender: recommender.preview(request, task.value, model))
    if not shown.messages:
        told = f"nothing would be sent: {shown.model} is outside, and this person may not be shown to it (allow_hosted: false)"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
        return
    for message in shown.messages:
        console.rule(message["role"])
        console.print(message["content"], markup=False, highlight=False)
    console.rule()
    count = f"{shown.tokens} tokens" if shown.tokens is not None else "tokens unknown: the model's tokenizer is not here"
    console.print(f"{shown.prompt.id} {shown.prompt.version} ({shown.prompt.sha}) · {count}")
    if shown.leaves:
        taken = ", ".join(f"{many} {kind}" for kind, many in shown.redacted.items()) or "nothing"
        console.print(f"{shown.model} is outside: redacted {taken}; attributes and names as 'privacy' says", soft_wrap=True)


@app.command()
def doctor(context: typer.Context) -> None:
    """Check every part, and say what to do about what is wrong."""
    settings: Settings = context.obj
    table = Table("part", "", "")
    wrong = 0

    def line(part: str, ok: bool, told: str) -> None:
        nonlocal wrong
        wrong += not ok
        table.add_row(part, "[green]ok[/]" if ok else "[red]no[/]", escape(told))

    line("configuration", True, f"domain {settings.service.domain}, data in {settings.data}")
    alias = settings.engine.model
    if alias in settings.models and settings.models[alias].backend == "vllm":
        here = settings.weights_path(alias).exists()
        found = str(settings.weights_path(alias)) if here else f"not here: whyrank models pull {alias}"
        line("weights", here or "/" in settings.models[alias].model, found)

    async def ask(recommender: Recommender) -> dict[str, Any]:
        return await recommender.readiness(seconds=60)

    try:
        parts = asyncio.run(_with_recommender(settings, ask))
    except WhyrankError as error:
        line("service", False, error.message)
        parts = {}
    for name, part in parts.items():
        told = ", ".join(f"{key} {value}" for key, value in part.items() if key not in {"ok", "why", "capabilities"})
        ours = name.startswith("model:") and settings.models[part["alias"]].backend == "vllm"
        cure = "; 'whyrank up' starts the engine" if ours and not part["ok"] else ""
        line(name, part["ok"], f"{told}{': ' if told and not part['ok'] else ''}{part.get('why', '')}{cure}")
    console.print(table)
    if wrong:
        raise typer.Exit(1)


async def _with_recommender(settings: Settings, job: Callable[[Recommender], Any]) -> Any:
    async with _recommender(settings) as recommender:
        return await job(recommender)


# ── the demonstration ───────────────────────────────────────────────────────────────────────────────────────────────

DEMO = {"366": "horror", "904": "romance", "127": "science fiction"}


@app.command()
def demo(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="small (1.5B) or tiny (135M).")] = "small",
) -> None:
    """The whole job on real films: fetch, ingest, start vLLM, rank and justify for three people, stop."""
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
    console.print(f"[dim]{time.monotonic() - start:.0f} s in all. {feeds.SETS['movielens-100k'].terms}.[/]")
    console.print("Next: [bold]make up[/] serves it on http://127.0.0.1:8080; the README sends it an event.")


def _in_process(settings: Settings) -> list[str]:
    """Whose weights are needed for likelihoods, if they are told in this process."""
    score = settings.models[settings.roles.score] if settings.roles.score else None
    return [score.model] if score is not None and score.backend == "local" and score.path is None else []


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
    """Ingest the feeds; what is already there is found out by the log itself, which takes nothing twice."""
    stamp = recommender.settings.data / ".movielens.ingested"
    if not stamp.exists():
        for feed in ("items", "users", "events"):
            await _ingest(recommender, feed, films / f"{feed}.jsonl", None, strict=False)
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
