"""`whyrank ingest`: items, users and events from files."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from service.build import Service
from service.cli.shell import console, errors, progress, run
from service.config import Settings
from service.feeds.cells import TimeUnit
from service.schema import Event, Feed, ForeignReport, IngestReport, Item, Rejection, User

if TYPE_CHECKING:
    from service.feeds.files import FeedFile, FileRow

    RefusedRows = list[tuple[FileRow, str]]
    """Rows that were not taken, each with the reason."""

CHUNK = 2_000
"""How many rows of a file are stored at once."""
REASONS = 10
"""How many different reasons for refused rows are printed."""
SHOWN_ROWS = 3
"""How many rows a dry run shows as they would be taken."""


Format = Literal[
    "auto",
    "jsonl",
    "csv",
    "parquet",
    "recbole",
    "movielens",
    "amazon-reviews",
    "personalize-csv",
    "gorse",
    "metarank",
    "personalize",
]
FileArgument = Annotated[
    str | None,
    typer.Argument(
        help="A table, JSON or Parquet; may be .gz, FILE.zip:MEMBER, or - for standard input."
    ),
]
FormatOption = Annotated[Format, typer.Option(help="Of the file; auto tells by its beginning.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="OURS=THEIRS", help="Our field, or an attribute, from their column."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OURS=VALUE", help="One value for all rows."),
]
DropOption = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Leave it out; '*': all that we have no field for."),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The same as YAML: map, set, drop, time_unit, …"),
]
TimeUnitOption = Annotated[
    TimeUnit | None, typer.Option(help="Of times that are numbers; without it milliseconds.")
]
TimeZoneOption = Annotated[
    str | None, typer.Option(metavar="ZONE", help="Of times that name none, as Europe/Berlin.")
]
DelimiterOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Between columns; without it found out.")
]
EncodingOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="As latin-1 or gb18030; without it UTF-8.")
]
ScaleOption = Annotated[
    str | None,
    typer.Option(metavar="LOW:HIGH", help="What the file rates by, as 0.5:5 or 1:10."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be taken and refused; store nothing.")
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at the first bad row, and exit with 1.")
]
ReEmbedOption = Annotated[
    bool,
    typer.Option(
        "--re-embed",
        help="Embed all items anew: after the embedder changed, or vectors were damaged.",
    ),
]
ReIndexOption = Annotated[
    bool,
    typer.Option(
        "--re-index",
        help="Make the indexes of the items anew: after a file of one was damaged.",
    ),
]

INGEST_HELP = """
Take items, users or events from a file. Bad rows are reported, kept in FILE.rejected.jsonl,
and stop nothing else.

Known by their beginning, or by --format: JSON lines or an array, CSV with any separator,
Parquet, RecBole's atomic files, MovieLens, Amazon reviews, Amazon Personalize's bulk CSV and
its API's bodies, and what Gorse and Metarank take.

Any other table by a mapping, as whyrank ingest events ratings.csv --map user_id=uid --map
item_id=film --map value=stars --set type=rating --time-unit s

Columns of items and users that are no field of ours become attributes; '|' splits lists; NULL,
NaN, NA and empty cells are no values. Items are embedded before this returns.
"""


def ingest(
    context: typer.Context,
    feed: Annotated[Feed | None, typer.Argument(help="What the file holds.")] = None,
    file: FileArgument = None,
    format: FormatOption = "auto",  # noqa: A002  the option's name
    map_: MapOption = None,
    set_: SetOption = None,
    drop: DropOption = None,
    mapping: MappingOption = None,
    time_unit: TimeUnitOption = None,
    time_zone: TimeZoneOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    scale: ScaleOption = None,
    dry_run: DryRunOption = False,
    strict: StrictOption = False,
    re_embed: ReEmbedOption = False,
    re_index: ReIndexOption = False,
) -> None:
    """The command whose help is `INGEST_HELP`."""
    if re_index:
        run(context.obj, _re_index)
    if re_embed:
        run(context.obj, _re_embed, re_embed=True)
    if (re_index or re_embed) and feed is None:
        return
    if feed is None or file is None:
        raise typer.BadParameter(
            "which feed from which file? as in: whyrank ingest items films.jsonl"
        )
    options = {
        "map": _parse_pairs("--map", map_),
        "set": _parse_pairs("--set", set_),
        "drop": frozenset(drop or ()),
        "time_unit": time_unit,
        "time_zone": time_zone,
        "delimiter": delimiter,
        "encoding": encoding,
        "scale": scale,
    }
    job = check_rows if dry_run else store_rows
    with _open(context.obj, feed, file, format, mapping, options) as feed_file:
        refused = run(context.obj, partial(job, feed=feed, file=feed_file, strict=strict))
    if strict and refused:
        raise typer.Exit(1)


async def _re_index(service: Service) -> None:
    with console.status("making the indexes anew …"):
        names = await service.ingest.re_index()
    console.print(f"indexes: made anew of {', '.join(names)}")


async def _re_embed(service: Service) -> None:
    with progress() as step:
        count = await service.ingest.embed_pending(partial(step, "embedding"))
    await service.jobs.trainer.train()
    console.print(f"items: {count} embedded by {service.embeddings.name}")


def _parse_pairs(option: str, arguments: list[str] | None) -> dict[str, str]:
    """Returns arguments of the form `a=b` as a dictionary. Raises `BadParameter` for any other
    form. `option`: the command's option that has the arguments."""
    pairs: dict[str, str] = {}
    for argument in arguments or ():
        name, _, value = argument.partition("=")
        if not (name and value):
            example = "title=name" if option == "--map" else "type=rating"
            raise typer.BadParameter(
                f"{option} {argument}: NAME=VALUE is needed, as {option} {example}"
            )
        pairs[name] = value
    return pairs


def _open(
    settings: Settings,
    feed: Feed,
    file: str,
    format_: Format,
    mapping: Path | None,
    options: dict[str, Any],
) -> FeedFile:
    """Opens a feed. Prints the format that was recognised, unless the format was given or is JSONL,
    CSV or Parquet."""
    from service.feeds.files import open_feed
    from service.feeds.mapping import FileMapping

    scales = {
        name: meaning.scale
        for name, meaning in settings.events.of(settings.service.domain).items()
        if meaning.scale is not None
    }
    feed_file = open_feed(file, feed, format_, FileMapping.made(mapping, options), scales)
    if format_ == "auto" and feed_file.format not in {"jsonl", "csv", "parquet"}:
        console.print(
            f"format: {feed_file.format}, by its beginning (--format says another)",
            highlight=False,
        )
    return feed_file


async def store_rows(service: Service, feed: Feed, file: FeedFile, *, strict: bool) -> int:
    """Stores the rows of a file, embeds items and trains on events. Prints the counts and returns
    how many rows were refused; `strict`: stops at the first."""
    put: Callable[..., Awaitable[IngestReport]] = {
        "items": service.ingest.items,
        "users": service.ingest.users,
        "events": service.ingest.events,
    }[feed]
    if file.shape:
        put = partial(service.ingest.foreign_rows, file.shape, feed=feed)
    reports: list[IngestReport] = []

    async def store(rows: list[Any]) -> list[Rejection]:
        reports.append(await put(rows, notes=file.notes))
        return reports[-1].rejected

    with progress() as step:
        refused = await _take_chunks(
            file, store, partial(step, feed), size=1 if strict else CHUNK, strict=strict
        )
        if feed == "items":
            await service.ingest.embed_pending(partial(step, "embedding"))
    if feed != "users" and any(report.accepted for report in reports):
        with console.status("learning who likes what …"):
            await service.jobs.trainer.train()
    _write_rejected(file, refused)
    _print_reasons(refused, file.notes.sentences())
    console.print(_summarise(feed, reports, len(refused)))
    return len(refused)


async def check_rows(service: Service, feed: Feed, file: FeedFile, *, strict: bool) -> int:
    """Stores nothing: prints the first rows as they would be taken, how many would be, and why
    others would be refused. Returns how many would be refused."""
    first_rows: list[Item | User | Event] = []
    accepted = 0

    async def check(rows: list[Any]) -> list[Rejection]:
        nonlocal accepted
        taken, rejections = service.ingest.check(feed, rows, file.notes, file.shape)
        accepted += len(taken)
        first_rows.extend(taken[: SHOWN_ROWS - len(first_rows)])
        return rejections

    with progress() as step:
        refused = await _take_chunks(file, check, partial(step, feed), size=CHUNK, strict=strict)
    for row in first_rows:
        console.print_json(row.model_dump_json(exclude_defaults=True))
    _print_reasons(refused, file.notes.sentences())
    console.print(
        f"{feed}: {accepted} would be taken"
        + (f", [red]{len(refused)} refused[/]" if refused else "")
        + "; nothing is stored"
    )
    return len(refused)


async def _take_chunks(
    file: FeedFile,
    take: Callable[[list[Any]], Awaitable[Sequence[Rejection]]],
    step: Callable[[int, int], None],
    *,
    size: int,
    strict: bool,
) -> RefusedRows:
    """Passes a file's rows to `take`, `size` lines at a time. Returns the rows that can't be read
    or that `take` rejects, with the reasons. `strict`: stops after the first chunk with such a
    row."""
    refused: RefusedRows = []
    line_number = 0
    while lines := list(islice(file.lines, size)):
        readable = [line for line in lines if line.row is not None]
        refused += [(line, line.reason) for line in lines if line.row is None]
        refused += [
            (readable[rejection.index], rejection.message)
            for rejection in await take([line.row for line in readable])
        ]
        line_number = lines[-1].number
        step(line_number, 0)
        if strict and refused:
            break
    step(line_number, line_number)
    return refused


def _summarise(feed: Feed, reports: list[IngestReport], refused: int) -> str:
    accepted = sum(report.accepted for report in reports)
    duplicates = sum(report.duplicates for report in reports)
    skipped = sum(report.skipped for report in reports if isinstance(report, ForeignReport))
    others = (
        (duplicates, f"{duplicates} duplicates"),
        (skipped, f"{skipped} without {feed} skipped"),
        (refused, f"[red]{refused} rejected[/]"),
    )
    return ", ".join([f"{feed}: {accepted} accepted", *(text for count, text in others if count)])


def _write_rejected(file: FeedFile, refused: RefusedRows) -> None:
    """Deletes the file of refused rows that an earlier run left beside the feed; writes a new one
    if there are refused rows."""
    file.rejected.unlink(missing_ok=True)
    if not refused:
        return
    with file.rejected.open("w", encoding="utf-8") as out:
        for line, reason in sorted(refused, key=lambda row: row[0].number):
            record = {"line": line.number, "reason": reason, "source": line.source}
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    errors.print(
        f"[yellow]{len(refused)} bad rows, all of them in[/] {escape(str(file.rejected))}",
        soft_wrap=True,
    )


def _print_reasons(refused: RefusedRows, notes: list[str]) -> None:
    """Prints why rows were refused, the commonest reason first, then the notes on the others.
    Reasons that differ in numbers only count as the same."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for line, reason in refused:
        kinds.setdefault(re.sub(r"\d+", "0", reason), []).append((line.number, reason))
    for rows in sorted(kinds.values(), key=len, reverse=True)[:REASONS]:
        number, reason = min(rows)
        where = (
            f"line {number}" if len(rows) == 1 else f"{len(rows)} rows, the first in line {number}"
        )
        errors.print(f"[yellow]{where}:[/] {escape(reason)}", soft_wrap=True, highlight=False)
    if len(kinds) > REASONS:
        errors.print(f"[yellow]and {len(kinds) - REASONS} other reasons[/]")
    for note in notes:
        errors.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True, highlight=False)
