"""`whyrank data`: data sets to fetch, and invented ones."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from service.cli.shell import console, progress


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
        _write_sample(sample, out, seed)
        return
    if sample is not None:
        raise typer.BadParameter(f"{name} {sample}: only 'sample' takes another name")
    from service.engine import feeds

    with progress() as step:
        path = feeds.pull(name, context.obj.data, step)
    console.print(f"{path}\n[dim]{escape(feeds.SETS[name].terms)}[/]")


def _write_sample(name: str | None, out: Path | None, seed: int) -> None:
    """Writes a sample's files; without a name, lists the samples."""
    from service import samples

    if name is None:
        table = Table("sample", "holds")
        for sample_name, sample in samples.SAMPLES.items():
            table.add_row(sample_name, sample.HOLDS)
        console.print(table)
        return
    for path, rows in samples.write(name, out or Path(name), seed).items():
        console.print(f"{path}: {rows} rows")
