"""`whyrank data`: data sets to fetch, and invented ones; `whyrank demo`: the whole job on one."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from service.build import Service
from service.cli.feeds import store_rows
from service.cli.ranking import items_of, print_ranking
from service.cli.serving import running_engine, until_stopped
from service.cli.shell import console, progress, run
from service.config import Settings
from service.schema import RecommendRequest

TASTES = {"366": "horror", "904": "romance", "127": "science fiction"}
"""What the users of the demonstration like, by id."""


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
    from service.engine import fetch

    with progress() as step:
        path = fetch.pull_set(name, context.obj.data, step)
    console.print(f"{path}\n[dim]{escape(fetch.SETS[name].TERMS)}[/]")


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


def demo(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="small (1.5B) or tiny (135M).")] = "small",
) -> None:
    """The whole job on real films: fetch, ingest, start vLLM, rank and justify for three people,
    stop."""
    from service.engine import fetch

    start = time.monotonic()
    settings = _with_model(context.obj, model)
    with until_stopped():
        with progress() as step:
            for alias in dict.fromkeys([model, *_local_scorers(settings)]):
                fetch.pull_weights(alias, settings.data / "models", step)
            films = fetch.pull_set("movielens-100k", settings.data, step)
        run(settings, lambda service: _ingest_films(service, films))
        with running_engine(settings):
            run(settings, _rank_for_users)
    console.print(
        f"[dim]{time.monotonic() - start:.0f} s in all. {fetch.SETS['movielens-100k'].TERMS}.[/]"
    )
    console.print(
        "Next: [bold]make up[/] serves it on http://127.0.0.1:8080; the README sends it an event."
    )


def _local_scorers(settings: Settings) -> list[str]:
    """Names the model whose weights are needed to compute likelihoods in this process; empty if
    none is."""
    score = settings.models[settings.roles.score] if settings.roles.score else None
    return (
        [score.model]
        if score is not None and score.backend == "local" and score.path is None
        else []
    )


def _with_model(settings: Settings, alias: str) -> Settings:
    """Returns the settings with the model `alias` for ranking, explaining and the local engine.
    Raises `BadParameter` if no such model is configured."""
    if alias not in settings.models:
        raise typer.BadParameter(f"no model {alias!r}; configured: {', '.join(settings.models)}")
    return settings.model_copy(
        update={
            "roles": settings.roles.model_copy(update={"rank": alias, "explain": alias}),
            "engine": settings.engine.model_copy(update={"model": alias}),
        }
    )


async def _ingest_films(service: Service, films: Path) -> None:
    """Ingests the feeds in the folder `films`, unless an earlier run has finished this. A run that
    was broken off may be repeated: the log takes no event twice."""
    from service.feeds.files import open_feed

    stamp = service.settings.data / ".movielens.ingested"
    if not stamp.exists():
        for feed in ("items", "users", "events"):
            with open_feed(films / f"{feed}.jsonl", feed) as file:
                await store_rows(service, feed, file, strict=False)
        stamp.touch()


async def _rank_for_users(service: Service) -> None:
    """Ranks for all users of `TASTES` at once."""
    requests = [RecommendRequest(user_id=user, top_n=5, deadline_ms=300_000) for user in TASTES]
    with console.status("ranking for three people at once …"):
        rankings = await asyncio.gather(
            *(service.recommender.recommend(request) for request in requests)
        )
    for (user, taste), ranking in zip(TASTES.items(), rankings, strict=True):
        items = await items_of(service, ranking)
        print_ranking(ranking, items, f"user {user}, who likes {taste}")
