"""Makes the sentences of a list's reasons from what may be said of each item: the strongest link,
and what the item is, in the form that differs most from the sentences before."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from service.explain.claims import Sayable
from service.explain.language import Language
from service.schema import Reason, ReasonFact

ALIKE = 0.8
"""Two sentences of a list are alike if they have more than this share of their words in common."""


@dataclass(frozen=True)
class Clause:
    """A model's words on an item, that were checked. `cites`: the kinds and values of the facts
    that they are taken from."""

    text: str
    cites: frozenset[tuple[str, str]] = frozenset()


@dataclass
class Sentences:
    """Makes the reasons of one list, and remembers them."""

    language: Language
    _said: list[str] = field(default_factory=list)

    def reason(self, told: Sayable, rank: int, clause: Clause | None = None) -> Reason:
        """The reason for an item: in a model's words if there are any and they fit into a sentence
        of the language's length, else by a template."""
        sentences = list(self._sentences(told, clause)) if clause is not None else []
        if clause is None or not sentences:
            clause, sentences = None, list(self._sentences(told, None))
        form, text = min(sentences, key=lambda one: self._likeness(one[1]) > ALIKE)
        self._said.append(text)
        facts = facts_of(told, form, clause)
        cited = {fact.item_id for fact in facts if fact.used and fact.item_id is not None}
        return Reason(
            item_id=told.item.id,
            rank=rank,
            reason=text,
            evidence=sorted(cited),
            grounded=clause is not None,
            facts=facts,
            attribution=dict(told.draws),
        )

    def _sentences(self, told: Sayable, clause: Clause | None) -> Iterator[tuple[str, str]]:
        """Sentences in every form that suits, beginning with one that hangs on the item and its
        link; only those of a fitting length if they hold a model's words."""
        values = self._values(told, clause)
        for form in forms_of(told, clause):
            said = self.language.forms[form]
            link = told.link.item.id if told.link is not None else ""
            first = crc32(f"{told.item.id}\n{link}".encode()) % len(said)
            for n in range(len(said)):
                text = self.language.finished(said[(first + n) % len(said)].format(**values))
                if clause is None or self._fits(text):
                    yield form, text

    def _values(self, told: Sayable, clause: Clause | None) -> Mapping[str, str]:
        """What stands for each placeholder of a form."""
        language, link = self.language, told.link
        own = language.phrase(told.own) if told.own else next(iter(told.chunks), "")
        title = language.title(link.item) if link is not None else ""
        kind, count = link.others if link is not None and link.others is not None else ("", 0)
        others = language.others.get(kind, language.others["*"])
        search = told.search.event.text or "" if told.search is not None else ""
        return {
            "did": language.deed(link.entry, title) if link is not None else "",
            "shared": language.listed([str(value) for _, value in told.shared]),
            "own": own,
            "clause": clause.text if clause is not None else "",
            "others": others.format(n=count, title=title),
            "value": told.asked or language.quote(search),
            "origin": language.origins[told.origin],
        }

    def _fits(self, text: str) -> bool:
        """Whether a sentence is as long as the language wants it; quoted titles don't count."""
        opening, closing = self.language.quoted.split("{}")
        rest = re.sub(f"{re.escape(opening)}.*?{re.escape(closing)}", "", text)
        length = len(rest.split()) if self.language.spaced else len(rest)
        return self.language.length[0] <= length <= self.language.length[1]

    def _likeness(self, text: str) -> float:
        """The greatest share of words in common with a sentence before."""
        return max((_common(text, other) for other in self._said), default=0.0)


def forms_of(told: Sayable, clause: Clause | None) -> list[str]:
    """The forms that suit what may be said of an item, the best first."""
    link, own = told.link, bool(told.own or told.chunks)
    if told.asked:
        kind = "asked"
    elif told.search is not None and (own or clause is not None):
        kind = "search"
    elif link is not None and told.shared:
        kind = "shared"
    elif link is not None and link.others is not None:
        kind = "others"
    elif link is not None and link.near:
        kind = "near"
    else:
        kind = "origin"
    if clause is not None:
        return ["clause" if kind == "shared" else f"clause_{kind}"]
    if kind == "search" or (kind == "origin" and not own):
        return [kind]
    if kind == "origin":
        return ["own_origin"]
    return [f"{kind}_own", kind] if own else [kind]


SAID: Mapping[str, frozenset[str]] = {
    "shared": frozenset({"event", "shared"}),
    "near": frozenset({"event", "near"}),
    "others": frozenset({"together"}),
    "asked": frozenset({"asked"}),
    "search": frozenset({"search"}),
    "origin": frozenset({"origin"}),
    "clause": frozenset({"event"}),
}
"""Which kinds of facts the sentences of a situation say."""


def facts_of(told: Sayable, form: str, clause: Clause | None) -> list[ReasonFact]:
    """All that may be said of an item; what a sentence of this form says is marked."""
    situation = form.removeprefix("clause_").removesuffix("_own").replace("own_", "")
    said = SAID[situation]
    with_own = form.endswith("_own") or form in {"search", "own_origin"}
    rows: list[dict[str, Any]] = []
    link = told.link
    if link is not None:
        item_id, event = link.item.id, link.entry.event.type
        rows.append({"kind": "event", "item_id": item_id, "event": event})
        rows += [
            {"kind": "shared", "key": key, "value": str(value), "item_id": item_id}
            for key, value in link.shared
        ]
        if link.near:
            rows.append({"kind": "near", "item_id": item_id})
        if link.others is not None:
            kind, count = link.others
            rows.append({"kind": "together", "item_id": item_id, "event": kind, "count": count})
    rows += [{"kind": "attribute", "key": key, "value": str(value)} for key, value in told.own]
    rows += [{"kind": "text", "value": chunk} for chunk in told.chunks]
    if told.asked:
        rows.append({"kind": "asked", "value": told.asked})
    if told.search is not None:
        rows.append({"kind": "search", "value": told.search.event.text})
    rows.append({"kind": "origin", "value": told.origin})
    shown = {("shared", str(value)) for _, value in told.shared} if "shared" in said else set()
    if clause is not None:
        shown = set(clause.cites)
    elif with_own:
        own = {("attribute", str(value)) for _, value in told.own}
        shown |= own or {("text", chunk) for chunk in told.chunks[:1]}
    return [
        ReasonFact(
            id=f"f{n}",
            used=(row["kind"], row.get("value")) in shown
            or (row["kind"] in said and row["kind"] != "shared"),
            **row,
        )
        for n, row in enumerate(rows, 1)
    ]


def _common(text: str, other: str) -> float:
    """The share of words that two sentences have in common, of the words of both."""
    one, two = (set(re.findall(r"[^\W_]+", each.casefold())) for each in (text, other))
    return len(one & two) / max(1, len(one | two))
