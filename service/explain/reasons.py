"""Writes the reason for a chosen item: a model's clause if it is verified, else a template."""

import re
from dataclasses import dataclass

from service.explain.check import grounded, wished
from service.explain.lines import LONGEST_LINE
from service.explain.support import Liked, Support, in_words, words
from service.explain.wording import Language
from service.schema import Candidate, Item, Reason

_LINE = re.compile(r"[A-Z] \[(h\d+(?:,h\d+)*)\] (.+)")


@dataclass(frozen=True)
class Claim:
    """What a model says of a chosen item: the labels of the liked items that it cites, and its
    clause."""

    labels: tuple[int, ...]
    clause: str


def claim_of(
    line: str, item: Item, support: Support, liked: Liked, language: Language
) -> Claim | None:
    """Parses a model's line. Returns None if its form is wrong or its clause can't be verified."""
    match = _LINE.fullmatch(line.strip()) if len(line) <= LONGEST_LINE else None
    if match is None:
        return None
    cited = {int(label[1:]) for label in match[1].split(",")}
    labels = next((choice for choice in support.choices if set(choice) == cited), None)
    clause = language.finished(match[2])
    if labels is None or not clause:
        return None
    items = [liked[label][1] for label in labels]
    return Claim(labels, clause) if grounded(clause, item, items, language) else None


def claimed(
    candidate: Candidate,
    rank: int,
    claim: Claim,
    support: Support,
    liked: Liked,
    language: Language,
) -> Reason:
    """Makes a reason of a model's verified claim."""
    cited = [liked[label][1] for label in claim.labels]
    moved = [liked[label][1] for label in support.moved if label not in claim.labels]
    return Reason(
        item_id=candidate.item.id,
        rank=rank,
        reason=language.sentence(cited, claim.clause, moved),
        evidence=[item.id for item in [*cited, *moved]],
        grounded=True,
    )


@dataclass(frozen=True)
class Template:
    """Writes reasons without a model. `wish`: the person's instruction in plain words. `known`: ids
    of the items that the person has seen."""

    liked: Liked
    language: Language
    wish: str
    known: frozenset[str]

    def reason(self, candidate: Candidate, rank: int, support: Support) -> Reason:
        """Writes a sentence on the attributes shared with liked items, else on those that the wish
        names, else on the liked items that moved the score, else on the sources that found the
        candidate."""
        labels = support.moved or [choice[0] for choice in support.choices[:1]]
        entries = [self.liked[label] for label in labels]
        items = [item for _, item in entries]
        facts = words(candidate.item)
        named = {fact for fact in facts if wished(str(fact[1]), self.wish)}
        if support.common:
            text = self.language.shared(support.common, *entries[0], items[1:])
        elif in_wish := in_words(candidate.item, named):
            text = self.language.matched(in_wish, items)
        elif items:
            text = self.language.speaks.format(titles=self.language.titles(items))
        else:
            text = self.language.origin(candidate) or self._first_seen(candidate)
        return Reason(
            item_id=candidate.item.id,
            rank=rank,
            reason=text,
            evidence=[item.id for item in items],
            grounded=False,
        )

    def _first_seen(self, candidate: Candidate) -> str:
        known = candidate.item.id in self.known
        return self.language.known if known else self.language.unseen
