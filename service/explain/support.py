"""Finds the evidence for a chosen item: liked items that moved its score, or that share most with
it."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

from service.explain.attribution import Attribution
from service.explain.wording import VALUE, name, visible
from service.schema import Candidate, Fact, Item, Recent, UserState

EVIDENCE = 2
"""Most items that a reason cites."""
NEAR = 3
"""Most liked items that may be cited for a chosen one."""

Liked = Mapping[int, tuple[Recent, Item]]
"""Liked items of a history that have a name, with their event, by their label in the prompt."""


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
    entries = {
        n: (entry, entry.item)
        for n, entry in enumerate(state.recent, 1)
        if entry.item is not None and entry.weight > 0
    }
    return {n: (entry, item) for n, (entry, item) in entries.items() if name(item)}


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
    """Attributes that can be written in a sentence."""
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
