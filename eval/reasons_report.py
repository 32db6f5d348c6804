"""`whyrank eval reasons`: the command, its table and its page."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Annotated

import numpy as np
import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from eval.lexicon import QUOTED
from eval.reader import Statement
from eval.reasons import MeasuredReason, ReasonList, ReasonsTarget, measure_reasons
from eval.stats import proportion
from eval.terminal import console, counted
from service.build import build
from service.config import Settings
from service.errors import BadRequest
from service.errors import reasons as validation_errors

SHOWN_FALSE = 20
"""How many reasons with a false statement the terminal shows; the page has all."""
ABOUT = """\
A statement is what a sentence claims: a title, what was done with it and how many stars, an
attribute's value, a number, a count of people, any other word. A reader that shares no code with
what writes reasons looks each up in the item, the catalogue and the log; what it can't account for
is false. How good it is: the share that it finds of falsehoods planted into these very reasons.
Evidence matters if the item's prior falls more without the cited likes than without as many others
by lot (chance: 50 %). A reason is specific if its words are borne out by its own item better than
by another of the list; a tie counts half. Intervals are at 95 %."""


PeopleCount = Annotated[
    int, typer.Option(min=1, help="How many people, by lot; each liked something.")
]
Likelihood = Annotated[
    str | None,
    typer.Option(help="A model that also tells of which item each reason is likeliest."),
]


def reasons(
    context: typer.Context,
    people: PeopleCount = 20,
    top: Annotated[int, typer.Option(min=1, max=100, help="Reasons for the first so many.")] = 5,
    locale: Annotated[
        list[str] | None,
        typer.Option(help="Language of the reasons; may be given again. Default: en and zh."),
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help="What everybody asks for, in words.")
    ] = None,
    deadline_ms: Annotated[
        int | None, typer.Option(min=1, max=600_000, help="For each answer; default: configured.")
    ] = None,
    likelihood: Likelihood = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same people.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write a page to this file.")] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="How many reasons, by lot, the page shows.")
    ] = 10,
) -> None:
    """Are the reasons true, are they the reason, do they fit their item alone, and what do they
    take?

    On the service's own catalogue and log, as it is configured. Its answers are logged like any
    other.
    """
    target = ReasonsTarget(
        people, top, tuple(locale or ("en", "zh")), seed, instruction, deadline_ms, likelihood
    )
    try:
        for name in target.locales:
            target.request("somebody", name)
    except ValidationError as error:
        raise BadRequest(validation_errors(error)) from error
    settings: Settings = context.obj
    lists = asyncio.run(_measured(settings, target))
    print_reasons(lists, target)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        page = reasons_page(lists, target, settings.service.domain, samples)
        out.write_text(page, encoding="utf-8")
        console.print(f"written: {out}")


async def _measured(settings: Settings, target: ReasonsTarget) -> list[ReasonList]:
    service = await build(settings)
    try:
        with counted("lists of reasons") as step:
            return await measure_reasons(service, target, step)
    finally:
        await service.close()


# ── the figures ───────────────────────────────────────────────────────────────────────────────────


def _share(good: int, count: int) -> str:
    if not count:
        return "–"
    rate, low, high = proportion(good, count)
    return f"{good} of {count} = {rate:.1%} ({low:.1%}…{high:.1%})"


def _given(lists: Sequence[ReasonList]) -> list[MeasuredReason]:
    return [one for each in lists for one in each.reasons if one.row.reason]


def _statements(lists: Sequence[ReasonList]) -> str:
    said = [one.true for each in _given(lists) for one in each.statements or ()]
    return _share(sum(said), len(said))


def _without_false(lists: Sequence[ReasonList]) -> str:
    read = [one.statements for one in _given(lists) if one.statements is not None]
    return _share(sum(all(one.true for one in said) for said in read), len(read))


def _reader(lists: Sequence[ReasonList]) -> str:
    given = _given(lists)
    return _share(sum(one.found for one in given), sum(one.planted for one in given))


def _mattered(lists: Sequence[ReasonList]) -> str:
    told = [one.mattered for one in _given(lists) if one.mattered is not None]
    return _share(sum(told), len(told))


def _specific(lists: Sequence[ReasonList]) -> str:
    pairs = [value for one in _given(lists) for value in one.specific]
    return f"{np.mean(pairs):.1%} of {len(pairs)} pairs" if pairs else "–"


def _likelier(lists: Sequence[ReasonList]) -> str:
    pairs = [won for each in lists for won in each.likelier]
    return _share(sum(pairs), len(pairs))


def _distinct(lists: Sequence[ReasonList], *, titles: bool) -> str:
    """How many different sentences a list has, with or without its quoted titles."""
    kept = [
        {one.row.reason if titles else QUOTED.sub("", one.row.reason or "") for one in given}
        for given in (_given([each]) for each in lists)
    ]
    return f"{np.mean([len(sentences) for sentences in kept]):.2f}"


def _seconds(values: Sequence[float]) -> str:
    return f"{np.percentile(values, 50):.2f} (p95 {np.percentile(values, 95):.2f})"


FIGURES: dict[str, Callable[[Sequence[ReasonList]], str]] = {
    "lists": lambda lists: f"{len(lists)}",
    "reasons": lambda lists: f"{len(_given(lists))} of {sum(len(each.reasons) for each in lists)}",
    "true statements": _statements,
    "reasons without a false one": _without_false,
    "planted falsehoods found": _reader,
    "evidence matters": _mattered,
    "specific": _specific,
    "… by likelihood": lambda lists: _likelier(lists),
    "different in a list": lambda lists: _distinct(lists, titles=True),
    "… without titles": lambda lists: _distinct(lists, titles=False),
    "in a model's words": lambda lists: _share(
        sum(bool(one.row.signals.get("grounded")) for one in _given(lists)), len(_given(lists))
    ),
    "seconds a list": lambda lists: _seconds([each.seconds for each in lists]),
    "… asked again": lambda lists: _seconds([each.again for each in lists]),
    "tokens a list": lambda lists: f"{np.mean([each.tokens for each in lists]):.0f}",
    "degraded lists": lambda lists: f"{sum(each.degraded for each in lists)}",
}
"""What is told of the lists in one locale, by the name of the row."""


def _by_locale(lists: Sequence[ReasonList], target: ReasonsTarget) -> dict[str, list[ReasonList]]:
    return {name: [each for each in lists if each.locale == name] for name in target.locales}


def _false_ones(lists: Sequence[ReasonList]) -> Iterator[tuple[MeasuredReason, list[Statement]]]:
    for one in _given(lists):
        wrong = [statement for statement in one.statements or () if not statement.true]
        if wrong:
            yield one, wrong


def _listed(wrong: Sequence[Statement]) -> str:
    return ", ".join(f"{statement.kind} {statement.said!r}" for statement in wrong)


# ── where they are shown ──────────────────────────────────────────────────────────────────────────


def print_reasons(lists: Sequence[ReasonList], target: ReasonsTarget) -> None:
    """Prints the figures by locale, and reasons with false statements."""
    by_locale = _by_locale(lists, target)
    table = Table("", *map(escape, by_locale))
    for name, figure in FIGURES.items():
        table.add_row(name, *map(figure, by_locale.values()))
    console.print(table)
    wrong = list(_false_ones(lists))
    for one, statements in wrong[:SHOWN_FALSE]:
        line = f"{one.row.title}: {one.row.reason} [false: {_listed(statements)}]"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(wrong) > SHOWN_FALSE:
        console.print(f"and {len(wrong) - SHOWN_FALSE} more: --out has all")


def reasons_page(
    lists: Sequence[ReasonList], target: ReasonsTarget, domain: str, samples: int
) -> str:
    """The figures, all reasons with false statements, and some by lot as a page of Markdown."""
    by_locale = _by_locale(lists, target)
    people = len({each.user_id for each in lists})
    lines = [
        f"## Reasons: {domain}, {people} people, the first {target.top}",
        "",
        ABOUT,
        "",
        f"| | {' | '.join(by_locale)} |",
        f"|---|{'---|' * len(by_locale)}",
        *(
            f"| {name} | {' | '.join(map(figure, by_locale.values()))} |"
            for name, figure in FIGURES.items()
        ),
        "",
    ]
    wrong = [
        f"- {one.row.title}: {one.row.reason} (false: {_listed(statements)})"
        for one, statements in _false_ones(lists)
    ]
    lines += ["### Reasons with a false statement", "", *wrong, ""] if wrong else []
    drawn = [(each, one) for each in lists for one in _given([each])]
    drawn = Random(target.seed).sample(drawn, min(samples, len(drawn)))
    shown = [
        f"- {', '.join(each.history)} → **{one.row.title}**: {one.row.reason}"
        for each, one in drawn
    ]
    lines += ["### By lot", "", *shown, ""] if shown else []
    return "\n".join(lines)
