"""Finds the evidence for a chosen item: liked items that moved its score, or that share most with
it."""

import asyncio
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from math import isfinite

import numpy as np

from service.context import CallContext
from service.errors import ModelError, PromptError
from service.explain.wording import VALUE, name
from service.llm import Asked, Scorer
from service.prompts import Prompt, visible
from service.schema import Candidate, Fact, Item, Recent, UserState

EVIDENCE = 2
"""Most items that a reason cites."""
NEAR = 3
"""Most liked items that may be cited for a chosen one."""

Liked = Mapping[int, tuple[Recent, Item]]
"""Liked items of a history that have a name, with their event, by their label in the prompt."""
Attribution = Sequence[Mapping[str, float]]
"""How much each liked item moves each chosen one: for each chosen item, in order, the effect in
nats by the liked item's id; empty if it could not be measured."""


@dataclass(frozen=True)
class Attributor:
    """Scores the chosen items with the whole list of liked items, and without each of them.

    The effect of a liked item is log P(title | history) with it, less that without it; the history
    is the last `titles` items. It is the mean of two such differences: for the history in order,
    and reversed. In a single order, a small model reacts so strongly to an item's position that
    another model often finds no such effect (`make verify`).

    All is scored in one call, as the histories share prefixes. Each chosen item is scored alone, so
    that its evidence doesn't depend on the other chosen items.
    """

    scorer: Scorer
    prompt: Prompt
    titles: int

    async def attribute(
        self,
        state: UserState,
        chosen: Sequence[Candidate],
        *,
        context: CallContext,
        line_tokens: int,
        until: float,
    ) -> Attribution:
        """Measures the effect of each liked item on each chosen one. Returns an empty list if the
        model fails or isn't done by `until` (time of the event loop)."""
        try:
            head, lines = self.prompt.document(state, self.titles, line_tokens)
            texts = [self.prompt.line(candidate.item, line_tokens) for candidate in chosen]
        except PromptError:
            return []
        liked = {n: entry.item.id for n, entry in enumerate(state.recent, 1) if entry.item}
        ids = list(dict.fromkeys(liked[label] for label in lines))
        if not ids or not texts:
            return []
        history = list(lines.items())
        contexts = [
            (head, *(line for label, line in order if liked[label] != left_out))
            for order in (history, history[::-1])
            for left_out in (None, *ids)
        ]
        asked = [Asked(pieces, text) for pieces in contexts for text in texts]
        try:
            async with asyncio.timeout_at(until):
                likelihoods = await self.scorer.loglikelihoods(asked, context=context, apart=True)
        except (ModelError, TimeoutError):
            return []
        values = likelihoods.values
        measured = len(values) == len(asked) and all(map(isfinite, values))
        return _moved_by(ids, values, len(texts)) if measured else []


def _moved_by(ids: Sequence[str], values: Sequence[float], count: int) -> list[dict[str, float]]:
    """Computes the effect of each liked item on each of `count` chosen ones.

    `values`: log-likelihoods, `count` for each history: the whole one, then without each liked
    item; first in order, then reversed.
    """
    forwards, backwards = np.reshape(values, (2, len(ids) + 1, count))
    gains = (forwards[0] - forwards[1:] + backwards[0] - backwards[1:]) / 2
    return [dict(zip(ids, column, strict=True)) for column in gains.T.tolist()]


@dataclass(frozen=True)
class Support:
    """Evidence for a chosen item. Labels stand for liked items.

    `moved`: labels of those that moved its score most. `choices`: sets of labels that a model may
    cite, best first. `common`: the attribute values shared with the first choice; if there are
    none, no model is asked.
    """

    moved: Sequence[int] = ()
    choices: Sequence[tuple[int, ...]] = ()
    common: Sequence[str] = ()


def liked_entries(state: UserState) -> Liked:
    """Liked items of a history that have a name, by label."""
    return {
        n: (entry, entry.item)
        for n, entry in enumerate(state.recent, 1)
        if entry.item is not None and entry.weight > 0 and name(entry.item)
    }


def supports_of(
    state: UserState, chosen: Sequence[Candidate], attribution: Attribution
) -> list[Support]:
    """Finds the evidence for each chosen item: by attribution if a liked item moved its score up,
    else by shared attributes. An item is no evidence for itself."""
    liked = {label: item for label, (_, item) in liked_entries(state).items()}
    facts = {label: words(item) for label, item in liked.items()}
    supports = []
    for n, candidate in enumerate(chosen):
        items = {label: item for label, item in liked.items() if item.id != candidate.item.id}
        labels = moving(items, attribution[n]) if n < len(attribution) else []
        if labels:
            sets = [tuple(labels), tuple(labels[:1])]
            common = {
                cited: _common(candidate.item, [items[label] for label in cited]) for cited in sets
            }
            choice = next((cited for cited in sets if common[cited]), ())
            supports.append(Support(labels, [choice] if choice else [], common.get(choice, [])))
        elif labels := closest(candidate.item, {label: facts[label] for label in items}):
            choices = [(label,) for label in labels] + list(combinations(labels, EVIDENCE))
            supports.append(Support((), choices, _common(candidate.item, [items[labels[0]]])))
        else:
            supports.append(Support())
    return supports


def moving(liked: Mapping[int, Item], by: Mapping[str, float]) -> list[int]:
    """Labels of the liked items that moved an item's score up, largest effect first, at most
    `EVIDENCE`. `by`: effect by item id."""
    latest = {item.id: label for label, item in liked.items()}
    labels = [label for item_id, label in latest.items() if by.get(item_id, 0) > 0]
    return sorted(labels, key=lambda label: (-by[liked[label].id], -label))[:EVIDENCE]


def closest(item: Item, liked: Mapping[int, frozenset[Fact]]) -> list[int]:
    """Labels of the liked item that shares most attributes with `item`, and of others that share at
    least the same ones; latest first, at most `NEAR`."""
    own = words(item)
    shares = {label: own & facts for label, facts in liked.items()}
    best = max(shares, key=lambda label: (len(shares[label]), label), default=None)
    if best is None or not shares[best]:
        return []
    return sorted((label for label in shares if shares[label] >= shares[best]), reverse=True)[:NEAR]


def words(item: Item) -> frozenset[Fact]:
    """Returns the item's textual attributes that can be written in a sentence: on one line, without
    invisible characters, and at most `VALUE` characters long."""
    return frozenset(
        (key, part)
        for key, part in item.facts()
        if isinstance(part, str) and part == visible(part)[:VALUE] != ""
    )


def _common(item: Item, others: Sequence[Item]) -> list[str]:
    return in_words(item, words(item).intersection(*map(words, others)))


def in_words(item: Item, facts: Set[Fact]) -> list[str]:
    """At most three values of the item's attributes that are among `facts`."""
    return list(dict.fromkeys(str(part) for key, part in item.facts() if (key, part) in facts))[:3]
