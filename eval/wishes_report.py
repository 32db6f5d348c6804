"""`whyrank eval wishes`: the command, its table and its page."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated

import typer
from rich.table import Table

from eval.stats import proportion
from eval.terminal import console, counted
from eval.wishes import KINDS, LANGUAGES, TOP, WishAnswer, WishesTarget, measure_wishes
from service.build import build
from service.config import Settings
from service.errors import BadRequest

SHOWN = 20
"""How many unmet wishes the terminal and the page show, by lot, of those whose wording is not held
out."""
ABOUT = f"""\
Each wording is filled with values of the catalogue's own facets that enough items meet, and asked
for a person of the log by lot; the prior ranks, so that what is measured is the reading and what it
does. `satisfied@{TOP}`: the share of the first {TOP} that meet all of it by their attributes;
`violating`: the share of wishes with any item among them that has what was refused; `said`: of
these, how many say in `understood.avoided` that it is avoided. `vague`: satisfied of wishes that
name nothing, by the values they were labelled with. `nDCG@{TOP}`: with the logarithm of how many
people liked an item as its gain, if it meets the wish. Held out: wordings that were not known to
who wrote the rules. Intervals are at 95 %."""
Row = tuple[str, str, list[WishAnswer]]


def wishes(
    context: typer.Context,
    language: Annotated[
        list[str] | None,
        typer.Option(help="One of en de es fr ru zh ja; may be given again. Default: all."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="An alias that reads what rules leave open. Default: rules alone."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many wishes a language, by lot.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="How often each wording is used.")] = 2,
    seed: Annotated[int, typer.Option(help="The same seed makes the same wishes.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Wishes at a time.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Also write a page to this file.")] = None,
) -> None:
    """Is what comes what was asked for? Wishes in seven languages, with "no" and "but", made from
    the catalogue's own facets, and judged by the items' attributes.

    Tells which wishes the service misreads, so that a model or a catalogue can be judged before
    anybody asks.
    """
    settings: Settings = context.obj
    languages = tuple(language or LANGUAGES)
    unknown = [name for name in languages if name not in LANGUAGES]
    if unknown:
        raise BadRequest(f"--language {unknown[0]}: there are wordings in {', '.join(LANGUAGES)}")
    if model is not None and model not in settings.models:
        raise BadRequest(f"no model {model!r}; configured: {', '.join(settings.models)}")
    target = WishesTarget(languages, limit, model is None, KINDS, seed, repeat, concurrency)
    answers = asyncio.run(_measured(settings, target, model))
    table = _table(answers)
    console.print(table)
    for line in _unmet(answers):
        console.print(f"· {line}", highlight=False, markup=False, soft_wrap=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(answers, model), encoding="utf-8")


async def _measured(
    settings: Settings, target: WishesTarget, model: str | None
) -> list[WishAnswer]:
    changed = settings
    if model is not None:
        changed = settings.model_copy(
            update={
                "roles": settings.roles.model_copy(update={"chat": model}),
                "rank": settings.rank.model_copy(update={"strategy": "prior"}),
            }
        )
    service = await build(changed, llms={} if model is None else None, scorers={})
    try:
        with counted("wishes") as step:
            return await measure_wishes(service, target, step)
    finally:
        await service.close()


def rows(answers: Sequence[WishAnswer]) -> list[Row]:
    """The answers by whether their wording was held out, and by language."""
    return [
        (name, language, [one for one in some if one.case.language == language])
        for name, held_out in (("known", False), ("held out", True))
        for some in ([one for one in answers if one.case.held_out is held_out],)
        for language in dict.fromkeys(one.case.language for one in some)
    ]


HEADS = (
    *("wordings", "language", "wishes", f"satisfied@{TOP}", "violating", "said", "vague"),
    *(f"nDCG@{TOP}", "ms"),
)


def cells(row: Row) -> list[str]:
    """A row's cells, in the order of `HEADS`."""
    name, language, answers = row
    hard = [one for one in answers if one.case.kind != "mood"]
    vague = [one for one in answers if one.case.kind == "mood"]
    violating = [one for one in hard if one.violations]
    gains = [one.ndcg for one in hard if one.ndcg is not None]
    return [
        name,
        language,
        str(len(answers)),
        _mean([one.satisfied for one in hard]),
        _share([bool(one.violations) for one in hard]),
        str(sum(one.known for one in violating)),
        _mean([one.satisfied for one in vague]),
        f"{sum(gains) / len(gains):.3f}" if gains else "–",
        f"{median(one.milliseconds for one in answers):.0f}",
    ]


def _mean(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f} %" if values else "–"


def _share(values: Sequence[bool]) -> str:
    if not values:
        return "–"
    rate, low, high = proportion(sum(values), len(values))
    return f"{100 * rate:.1f} % ({100 * max(low, 0):.1f}–{100 * high:.1f})"


def _table(answers: Sequence[WishAnswer]) -> Table:
    table = Table(*HEADS)
    for row in rows(answers):
        table.add_row(*cells(row))
    return table


def _unmet(answers: Sequence[WishAnswer]) -> list[str]:
    """Wishes of known wordings that were not met, by lot."""
    unmet = [one for one in answers if not one.case.held_out and one.satisfied < 1]
    some = Random(0).sample(unmet, min(SHOWN, len(unmet)))
    return [f"{one.case.language} {one.satisfied:.0%}: {one.case.text}" for one in some]


def page(answers: Sequence[WishAnswer], model: str | None) -> str:
    """The table as a page in Markdown."""
    lines = [
        f"# Wishes, read by rules{'' if model is None else f' and {model}'}",
        "",
        ABOUT,
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * len(HEADS),
        *("| " + " | ".join(cells(row)) + " |" for row in rows(answers)),
    ]
    unmet = _unmet(answers)
    if unmet:
        lines += ["", "Not met, by lot, of the known wordings:", "", *(f"- {one}" for one in unmet)]
    return "\n".join(lines) + "\n"
