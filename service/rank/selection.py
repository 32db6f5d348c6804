"""Which strategies are tried for a request, by which models, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.rank.first_token import SPEC as FIRST_TOKEN
from service.rank.keyed import SPEC as KEYED
from service.rank.likelihood import SPEC as LIKELIHOOD
from service.rank.listwise import SPEC as LISTWISE
from service.rank.pointwise import SPEC as POINTWISE

SPECS = {spec.name: spec for spec in (LIKELIHOOD, FIRST_TOKEN, LISTWISE, KEYED, POINTWISE)}
"""From the cheapest, in tokens read and written."""
STRATEGIES = ("auto", *SPECS, "prior")
"""What `strategy` in a request may name."""


@dataclass(frozen=True)
class Option:
    """A strategy by a model. `able`: can the model do it, as far as is known? `bound`: does a
    grammar hold its answer?"""

    strategy: str
    model: str
    able: bool = True
    bound: bool = True


def names_to_try(asked: str, preferred: Sequence[str], *, fast: bool) -> list[str]:
    """Strategies in the order in which they are wanted: the preferred ones for `auto`, otherwise
    the one that was asked for and those of the preferred that are cheaper. `fast`: only fast
    ones, unless one was asked for."""
    names = [name for name in preferred if SPECS[name].fast or not fast]
    if asked == "auto":
        return names
    order = list(SPECS)
    cheaper = order[: order.index(asked)]
    return [asked, *(name for name in names if name in cheaper)]


def choose(asked: str, names: Sequence[str], options: Sequence[Option]) -> list[Option]:
    """The options that are tried, in order.

    A named strategy comes first, by each model in turn, then cheaper ones. For `auto` everything
    that one model can do comes before another model stands in for it, and an order that no grammar
    holds comes after that model's scores; likelihoods, which have a model of their own, stand first
    if they are preferred to all, else last. What a model can't do is left out, unless it was asked
    for or nothing else is left: then it fails openly.
    """
    ordered = sorted(options, key=lambda option: names.index(option.strategy))
    if asked == "auto":
        models = list(dict.fromkeys(o.model for o in options if o.strategy != LIKELIHOOD.name))
        likely = [option for option in ordered if option.strategy == LIKELIHOOD.name]
        writing = [option for option in ordered if option.strategy != LIKELIHOOD.name]
        writing.sort(
            key=lambda o: (models.index(o.model), o.strategy == LISTWISE.name and not o.bound)
        )
        first = names[:1] == [LIKELIHOOD.name]
        ordered = likely + writing if first else writing + likely
    usable = [option for option in ordered if option.able or option.strategy == asked]
    return usable or ordered[:1]
