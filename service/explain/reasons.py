"""A chosen item's reason: a model's clause if it holds, else a template that is true."""

from __future__ import annotations

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
    """What a model says of a chosen item: the labels of the history's entries that it cites, and
    its clause."""

    labels: tuple[int, ...]
    clause: str


def claim_of(
    line: str, item: Item, support: Support, liked: Liked, language: Language
) -> Claim | None:
    """A model's line as a claim; None for one that is no line of ours or says what does not
    hold."""
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
    """A reason in the model's words."""
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
    """Writes true reasons without a model. `wish`: what the person asked for, in plain words;
    `known`: ids of items that the person knows."""

    liked: Liked
    language: Language
    wish: str
    known: frozenset[str]

    def reason(self, candidate: Candidate, rank: int, support: Support) -> Reason:
        """A sentence of true shared attributes, else of those that the wish names, else of what
        moved the item's score; without any, what brought the candidate here."""
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
