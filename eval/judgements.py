"""`whyrank eval relevance`: is what reranking puts first what answers a query, is `relevance_score`
the probability that it does, and does a search find items in other languages?

On queries that were judged by hand over the sample shop's products, of which every second one was
kept from the fit of the relevances, and on an invented catalogue of 200 items in seven languages.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table

from eval.metrics import graded_ndcg
from eval.stats import interval
from eval.terminal import console
from service.build import Service, build
from service.config import Settings
from service.samples.shop import tables
from service.schema import Document, RecommendRequest, RerankRequest

TOP = 10
FOUND = 3
"""A search has found an item that is among its first so many."""
BINS = 10


@dataclass(frozen=True)
class JudgedQuery:
    """A query, what reranking made of it, and what it should have. `scores`: the relevance of each
    product, in the order of the answer; `gains`: 1 for one that answers the query, ½ for one that
    does in part; `held_out`: whether it was kept from the fit."""

    language: str
    scores: list[float]
    gains: list[float]
    held_out: bool

    @property
    def ndcg(self) -> float | None:
        """nDCG@10; None for a query that nothing answers."""
        return graded_ndcg(self.gains, self.gains, TOP)


@dataclass(frozen=True)
class Relevance:
    """What was measured. `found`: by pair of the query's and the item's language, whether the item
    was among the first `FOUND`."""

    queries: list[JudgedQuery]
    found: list[tuple[str, str, bool]]

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """(relevance, gain) of each product for each query that was kept from the fit."""
        return [
            pair
            for query in self.queries
            if query.held_out
            for pair in zip(query.scores, query.gains, strict=True)
        ]

    @property
    def rows(self) -> list[tuple[float, float, int]]:
        """The reliability diagram: by tenth of the relevance, its mean, the mean gain, how many."""
        bins: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
        for score, gain in self.pairs:
            bins[min(int(score * BINS), BINS - 1)].append((score, gain))
        return [
            (sum(s for s, _ in one) / len(one), sum(g for _, g in one) / len(one), len(one))
            for one in bins
            if one
        ]

    @property
    def error(self) -> float:
        """The expected calibration error: how far the tenths lie from the diagonal, weighed by how
        many pairs they hold."""
        total = sum(count for _, _, count in self.rows)
        return sum(abs(score - gain) * count for score, gain, count in self.rows) / total

    def brier_gains(self) -> list[float]:
        """For each query kept from the fit: how much smaller the mean squared error of the
        relevances is than that of the base rate."""
        base = sum(gain for _, gain in self.pairs) / len(self.pairs)
        return [
            sum((base - g) ** 2 - (s - g) ** 2 for s, g in zip(one.scores, one.gains, strict=True))
            / len(one.gains)
            for one in self.queries
            if one.held_out
        ]


def read(name: str) -> Any:
    text = (files("eval") / "judged" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


async def measure_relevance(
    settings: Settings, folder: Path, limit: int | None, tell: Callable[[str], None]
) -> Relevance:
    """Reranks the sample shop's products for each judged query, without a person or a model, and
    searches a catalogue in seven languages. `folder`: where the catalogue is made."""
    changed = settings.model_copy(
        update={
            "data": folder,
            "models": {},
            "roles": type(settings.roles)(),
            "fallback": [],
            "rank": settings.rank.model_copy(update={"strategy": "prior"}),
            "catalog": type(settings.catalog)(),
        }
    )
    service = await build(changed, llms={}, scorers={})
    try:
        queries = await _judged(service, limit, tell)
        return Relevance(queries, await _searched(service, limit, tell))
    finally:
        await service.close()


async def _judged(
    service: Service, limit: int | None, tell: Callable[[str], None]
) -> list[JudgedQuery]:
    rows = tables(1)["products.csv"]
    ids = [str(row["id"]) for row in rows]
    documents = [
        Document(
            title=str(row["title"]),
            text=str(row["text"]),
            attributes={
                key: [*value] if isinstance(value, tuple) else value
                for key, value in row.items()
                if key in {"category", "kind", "brand", "good_for"} and value is not None
            },
        )
        for row in rows
    ]
    found = []
    for n, judged in enumerate(read("queries")[:limit]):
        tell(f"query {n + 1}: {judged['query']}")
        request = RerankRequest(query=judged["query"], documents=documents, strategy="prior")
        answer = await service.recommender.rerank(request)
        gains = dict.fromkeys(judged["partly"], 0.5) | dict.fromkeys(judged["relevant"], 1.0)
        found.append(
            JudgedQuery(
                judged["language"],
                [float(row.signals["relevance"]) for row in answer.ranking.items],
                [gains.get(ids[place], 0.0) for place in answer.places],
                n % 2 == 1,
            )
        )
    return found


async def _searched(
    service: Service, limit: int | None, tell: Callable[[str], None]
) -> list[tuple[str, str, bool]]:
    polyglot = read("polyglot")
    tell("embedding the catalogue in seven languages …")
    items = [{name: one[name] for name in ("id", "title", "text")} for one in polyglot["items"]]
    await service.ingest.items(items)
    await service.ingest.embed_pending()
    language = {one["id"]: one["language"] for one in polyglot["items"]}
    found = []
    for n, query in enumerate(polyglot["queries"][:limit]):
        tell(f"search {n + 1}: {query['query']}")
        ranking = await service.recommender.recommend(
            RecommendRequest(instruction=query["query"], top_n=FOUND, explain="none")
        )
        hit = query["target"] in {row.item_id for row in ranking.items}
        found.append((query["language"], language[query["target"]], hit))
    return found


def relevance(
    context: typer.Context,
    limit: Annotated[
        int | None, typer.Option(min=4, help="Only the first N judged queries and searches.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write a page to this file.")] = None,
) -> None:
    """Does reranking put first what answers a query, does `relevance_score` mean what it says, and
    does a search find what is written in another language?

    By the configured embedder, on invented data that comes with whyrank; no model is asked.
    """
    with TemporaryDirectory() as folder, console.status("…") as status:
        measured = asyncio.run(measure_relevance(context.obj, Path(folder), limit, status.update))
    for table in _tables(measured):
        console.print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(measured), encoding="utf-8")


Cells = tuple[Sequence[str], list[list[str]]]


def _figures(measured: Relevance) -> list[Cells]:
    """The heads and rows of what is shown: the order, the reliability, the searches."""
    order = []
    for name in ["all", *dict.fromkeys(one.language for one in measured.queries)]:
        some = [one for one in measured.queries if name in {"all", one.language}]
        values = [one.ndcg for one in some if one.ndcg is not None]
        low, high = interval(values)
        order.append(
            [name, str(len(values)), f"{sum(values) / len(values):.3f} ({low:.3f}–{high:.3f})"]
        )
    reliable = [
        [f"{score:.2f}", f"{gain:.2f}", str(count), "█" * round(20 * gain)]
        for score, gain, count in measured.rows
    ]
    gains = measured.brier_gains()
    low, high = interval(gains)
    errors = [
        ["expected calibration error", f"{measured.error:.3f}"],
        [
            "Brier score below the base rate's",
            f"{sum(gains) / len(gains):.4f} ({low:.4f}–{high:.4f})",
        ],
    ]
    searches = [
        [name, str(len(hits)), f"{sum(hits) / len(hits):.1%}"]
        for name in ["all", *dict.fromkeys(asked for asked, _, _ in measured.found)]
        if (hits := [hit for asked, _, hit in measured.found if name in {"all", asked}])
    ]
    return [
        (("queries in", "queries", "nDCG@10"), order),
        (("relevance", "answers it", "pairs", ""), reliable),
        (("of held-out queries", ""), errors),
        (("searches in", "searches", f"item among the first {FOUND}"), searches),
    ]


def _tables(measured: Relevance) -> list[Table]:
    tables = []
    for heads, rows in _figures(measured):
        table = Table(*heads)
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def page(measured: Relevance) -> str:
    """The tables as a page in Markdown."""
    lines = ["# Relevance", "", (__doc__ or "").partition("\n\n")[2].strip(), ""]
    for heads, rows in _figures(measured):
        lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines)
