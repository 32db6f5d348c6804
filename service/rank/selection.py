"""Chooses the strategies that are tried for a request, each with a model, and their order."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.rank.first_token import SPEC as FIRST_TOKEN
from service.rank.keyed import SPEC as KEYED
from service.rank.likelihood import SPEC as LIKELIHOOD
from service.rank.listwise import SPEC as LISTWISE
from service.rank.pointwise import SPEC as POINTWISE

SPECS = {spec.name: spec for spec in (LIKELIHOOD, FIRST_TOKEN, LISTWISE, KEYED, POINTWISE)}
"""All strategies by name, the cheapest in tokens first."""
STRATEGIES = ("auto", *SPECS, "prior")
"""Values that the field `strategy` of a request accepts."""


@dataclass(frozen=True)
class Option:
    """A strategy with a model. `able`: whether the model is known or assumed to support it.
    `bound`: whether a grammar constrains the model's output."""

    strategy: str
    model: str
    able: bool = True
    bound: bool = True


def names_to_try(asked: str, preferred: Sequence[str], *, fast: bool) -> list[str]:
    """Names of the strategies to try, in order: for `auto` the preferred ones; otherwise the
    requested one, then the preferred ones that are cheaper. `fast`: drops slow ones, except the
    requested one."""
    names = [name for name in preferred if SPECS[name].fast or not fast]
    if asked == "auto":
        return names
    cheaper = list(SPECS)[: list(SPECS).index(asked)]
    return [asked, *(name for name in names if name in cheaper)]


def choose(asked: str, names: Sequence[str], options: Sequence[Option]) -> list[Option]:
    """The options to try, in order.

    A requested strategy comes first, with each model in turn; cheaper ones follow. For `auto`, all
    strategies of one model come before those of the next, and a model's `listwise` without a
    grammar comes after its other strategies. `likelihood`, which has a model of its own, comes
    first if it is the most preferred strategy, else last. Options that the model can't do are left
    out, unless they were requested or are the only ones: then they fail with an error.
    """
    ordered = sorted(options, key=lambda option: names.index(option.strategy))
    if asked == "auto":
        # in the order of those that write
        models = [
            option.model
            for option in sorted(options, key=lambda option: option.strategy == LIKELIHOOD.name)
        ]
        likely_first = names[:1] == [LIKELIHOOD.name]
        ordered.sort(
            key=lambda option: (
                (option.strategy == LIKELIHOOD.name) != likely_first,
                models.index(option.model),
                option.strategy == LISTWISE.name and not option.bound,
            )
        )
    usable = [option for option in ordered if option.able or option.strategy == asked]
    return usable or ordered[:1]
