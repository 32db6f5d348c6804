"""What speaks for a chosen item: liked ones that moved its score, or that share most with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

from service.explain.attribution import Attribution
from service.explain.wording import VALUE, name, visible
from service.schema import Candidate, Fact, Item, Recent, UserState

EVIDENCE = 2
"""At most so many cited items a reason."""
NEAR = 3
"""So many liked items a chosen one may be justified by."""

Liked = Mapping[int, tuple[Recent, Item]]
"""Liked entries of a history that can be named, by their labels in a prompt."""


@dataclass(frozen=True)
class Support:
    """What speaks for a chosen item, as labels of liked entries. `moved`: those that moved its
    score most; `choices`: sets of which a model may say that the item shares something with them,
    the best first; `common`: what that is, in words. Where that is nothing, the model isn't
    asked."""

    moved: Sequence[int] = ()
    choices: Sequence[tuple[int, ...]] = ()
    common: Sequence[str] = ()


def liked_entries(state: UserState) -> Liked:
    """Liked entries that can be named, by label."""
    entries = {
        n: (entry, entry.item)
        for n, entry in enumerate(state.recent, 1)
        if entry.item is not None and entry.weight > 0
    }
    return {n: (entry, item) for n, (entry, item) in entries.items() if name(item)}


def supports_of(
    state: UserState, chosen: Sequence[Candidate], attribution: Attribution
) -> list[Support]:
    """By attribution where something liked speaks for the item, else by what is shared; an item
    does not speak for itself."""
    every = {label: item for label, (_, item) in liked_entries(state).items()}
    facts = {label: words(item) for label, item in every.items()}
    supports = []
    for n, candidate in enumerate(chosen):
        items = {label: item for label, item in every.items() if item.id != candidate.item.id}
        labels = moving(items, attribution.by[n]) if n < len(attribution.by) else []
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
    """Labels of the liked items that moved an item's score up, those that moved it most first, at
    most `EVIDENCE`."""
    latest = {item.id: label for label, item in liked.items()}
    labels = [label for item_id, label in latest.items() if by.get(item_id, 0) > 0]
    return sorted(labels, key=lambda label: (-by[liked[label].id], -label))[:EVIDENCE]


def closest(item: Item, liked: Mapping[int, frozenset[Fact]]) -> list[int]:
    """Labels of the liked item that shares most with an item, and of those that share all of that
    with it too; the later first, at most `NEAR`, none if nothing is shared."""
    mine = words(item)
    shares = {label: mine & facts for label, facts in liked.items()}
    best = max(shares, key=lambda label: (len(shares[label]), label), default=None)
    if best is None or not shares[best]:
        return []
    return sorted((label for label in shares if shares[label] >= shares[best]), reverse=True)[:NEAR]


def words(item: Item) -> frozenset[Fact]:
    """Attributes that can be said in a sentence."""
    return frozenset(
        (key, part)
        for key, part in item.facts()
        if isinstance(part, str) and part == visible(part)[:VALUE] != ""
    )


def _common(item: Item, others: Sequence[Item]) -> list[str]:
    return in_words(item, words(item).intersection(*map(words, others)))


def in_words(item: Item, facts: Set[Fact]) -> list[str]:
    """At most three of its facts."""
    return list(dict.fromkeys(str(part) for key, part in item.facts() if (key, part) in facts))[:3]
