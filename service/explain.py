"""Why each of the best was chosen: the model's words if every claim in them checks out, else a true template.

For each item the grammar offers as evidence only liked items that share something with it; the sentence begins with their
titles, and the model continues it: `Like "Gattaca", it is …`. It stands only if it names something the cited items and the
chosen one share, and says nothing else that could be false: no other title, attribute, number, name or plot.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from service.errors import InvalidOutput, ModelError, ModelTimeout, PromptError
from service.llm import LLM, Call, Piece
from service.prompts import LETTERS, Prompt, harmless, variables
from service.schema import Candidate, Degraded, Fact, Item, Reason, Recent, Usage, UserState

EVIDENCE = 2
"""At most so many cited items a reason."""
LONGEST = 100
"""Characters of the model's part of a sentence; the prompt asks for less."""
LINE_TOKENS = 60
NEAR = 3
"""So many liked items a chosen one may be justified by."""


@dataclass(frozen=True)
class Explained:
    """What explaining cost, and whether the model could not do its part."""

    usage: Usage = Usage()
    degraded: Degraded | None = None


async def explain(
    state: UserState,
    chosen: Sequence[Candidate],
    llm: LLM | None,
    prompt: Prompt,
    *,
    top: int,
    deadline: float,
    line_tokens: int,
    instruction: str | None = None,
    locale: str | None = None,
) -> AsyncGenerator[Reason | Explained, None]:
    """A reason for each of `chosen` in order, as soon as it is there, then what it took.

    The model (None: no model) speaks for the first `top`, until `deadline`, a time of the event loop; templates do for the
    rest, and where its words fail the check.
    """
    liked, evidence = _evidence(state, chosen)
    asked = [n for n, labels in enumerate(evidence) if labels][:top] if llm is not None else []
    usage, degraded, said = Usage(), None, None
    if llm is not None and asked:
        shown = material(state, chosen, top=top, line_tokens=line_tokens, instruction=instruction, locale=locale)
        try:
            messages = prompt.render(shown)
        except PromptError:
            degraded = _degraded(llm, InvalidOutput.code)
        else:
            lines = grammar([evidence[n] for n in asked])
            call = Call(messages, LINE_TOKENS * len(asked), grammar=lines, temperature=prompt.sampling.temperature)
            said = Lines(llm, call, deadline)
    for n, candidate in enumerate(chosen):
        line = ""
        if llm is not None and said is not None and n in asked and degraded is None:
            try:
                line = await said.next()
            except ModelError as error:
                degraded = _degraded(llm, error.code)
        yield _reason(candidate, n + 1, line, [liked[label] for label in evidence[n]], liked)
    if said is not None:
        usage = await said.finish()
    yield Explained(usage, degraded)


def material(
    state: UserState,
    chosen: Sequence[Candidate],
    *,
    top: int,
    line_tokens: int,
    instruction: str | None = None,
    locale: str | None = None,
) -> dict[str, Any]:
    """What the prompt is rendered with: the first `top` of `chosen` that share something with a liked item, and what."""
    liked, evidence = _evidence(state, chosen)
    asked = [n for n, labels in enumerate(evidence) if labels][:top]
    shown = variables(state, [chosen[n] for n in asked], instruction=instruction, locale=locale, line_tokens=line_tokens)
    for line, n in zip(shown["candidates"], asked, strict=True):
        best = liked[evidence[n][0]].item
        line["common"] = ", ".join(_common(chosen[n].item, best)) if best is not None else ""
    return shown


def _evidence(state: UserState, chosen: Sequence[Candidate]) -> tuple[dict[int, Recent], list[list[int]]]:
    """The liked entries by label, and for each chosen item the labels that speak for it."""
    liked = {n: entry for n, entry in enumerate(state.recent, 1) if entry.weight > 0 and entry.item is not None}
    facts = {label: frozenset(entry.item.facts()) for label, entry in liked.items() if entry.item is not None}
    return liked, [closest(candidate.item, facts) for candidate in chosen]


def _degraded(llm: LLM, reason: str) -> Degraded:
    return Degraded.model_validate({"from": f"explain:{llm.alias}", "to": "template", "reason": reason})


class Lines:
    """A model's answer line by line, each when it is whole, none after the deadline (a time of the event loop)."""

    def __init__(self, llm: LLM, call: Call, deadline: float) -> None:
        self._pieces = llm.stream(call)
        self._deadline = deadline
        self._text = ""
        self._usage = Usage()

    async def next(self) -> str:
        """Raises a `ModelError` when there is none in time."""
        while "\n" not in self._text:
            piece = await self._piece()
            if piece is None:
                if not self._text:
                    raise InvalidOutput("fewer lines than asked for")
                self._text += "\n"
                break
            self._text += piece.text
        line, _, self._text = self._text.partition("\n")
        return line

    async def finish(self) -> Usage:
        """Tokens, as far as the model told; its work is stopped if it isn't done."""
        with suppress(ModelError):
            while await self._piece():
                pass
        await self._pieces.aclose()
        return self._usage

    async def _piece(self) -> Piece | None:
        if asyncio.get_running_loop().time() >= self._deadline:
            raise ModelTimeout("the deadline passed")
        try:
            async with asyncio.timeout_at(self._deadline):
                piece = await anext(self._pieces, None)
        except TimeoutError as error:
            raise ModelTimeout("the deadline passed") from error
        if piece is not None and piece.usage is not None:
            self._usage = piece.usage
        return piece


def grammar(evidence: Sequence[Sequence[int]]) -> str:
    """llguidance: a line for each item, letters in order: one or two of its evidence labels, then a bounded clause."""
    lines = []
    for letter, labels in zip(LETTERS, evidence, strict=False):
        sets = [(one,) for one in labels] + list(combinations(labels, EVIDENCE))
        options = " | ".join('"' + ",".join(f"h{label}" for label in chosen) + '"' for chosen in sets)
        lines.append(f'"{letter} [" ({options}) "] " why')
    newline = ' "\\n" '
    return f'start: {newline.join(lines)}\nwhy: /(is|has|mixes|shares|offers) [^\\n.\\[\\]"]{{12,{LONGEST}}}\\./\n'


_LINE = re.compile(r"[A-Z] \[(h\d+(?:,h\d+)*)\] (.+\.)")


def _reason(candidate: Candidate, rank: int, line: str, near: Sequence[Recent], liked: dict[int, Recent]) -> Reason:
    """The model's line if it holds, else a template."""
    if match := _LINE.fullmatch(line.strip()):
        cited = [liked[n] for n in dict.fromkeys(int(label[1:]) for label in match[1].split(",")) if n in liked]
        items = [entry.item for entry in cited if entry.item is not None]
        why = finished(match[2])
        if items and grounded(why, candidate.item, items):
            titles = " and ".join(f'"{item.title}"' for item in items)
            text = f"Like {titles}, it {why}"
            return Reason(item_id=candidate.item.id, rank=rank, reason=text, evidence=[i.id for i in items], grounded=True)
    return template(candidate, rank, near)


def finished(clause: str) -> str:
    """A clause that ran into the length bound ends at its last comma, or is dropped."""
    if len(clause) < LONGEST:
        return clause
    head, comma, _ = clause.rpartition(",")
    return f"{head}." if comma else ""


# ── the check ───────────────────────────────────────────────────────────────────────────────────────────────────────


NEUTRAL = frozenset(
    re.findall(
        r"\w+",
        "a about again also an and another as at both but by element elements fan fans feel feels film films "
        "for from full gives has have in into is it item items its kind like likes love lot lots many mix "
        "mixed mixes more much of offers one others piece plenty same setting shares similar some sort "
        "special story strong style that the there this to together too touch twist type very well with you "
        "your",
    )
)
"""Words that claim nothing which could be false."""


def grounded(text: str, candidate: Item, cited: Sequence[Item]) -> bool:
    """Can every word be accounted for? It names something that the candidate and all cited items share; whatever else it
    says stands in the candidate's own title, text or numbers, or claims nothing."""
    shared = set.intersection(*(_values(item) for item in [candidate, *cited]))
    own = {_plain(str(part)) for _, part in candidate.facts() if not isinstance(part, str)}
    known = {*NEUTRAL, *_plain(f"{candidate.title} {candidate.text}").split(), *own}
    plain = _plain(text)
    rest = plain
    for value in sorted(shared, key=len, reverse=True):
        rest = _without(rest, value)
    loose = [word for word in rest.split() if word not in known and not any(_names(word, value) for value in shared)]
    return not loose and any(_names(plain, value) for value in shared)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w'-]+", harmless(text).casefold()))


def _mentions(text: str, phrase: str) -> bool:
    return bool(phrase) and f" {phrase} " in f" {text} "


def _without(text: str, phrase: str) -> str:
    return f" {text} ".replace(f" {phrase} ", " ").strip() if phrase else text


def _names(text: str, value: str) -> bool:
    """Is the attribute value named, in any form that keeps its stem: comedy, comedies; romance, romantic?"""
    if len(value) < 6 or " " in value:
        return _mentions(text, value)
    return any(word.startswith(value[:5]) for word in text.split())


def _values(item: Item) -> set[str]:
    """What an item is, in words; numbers are checked as facts instead."""
    return {_plain(part) for _, part in item.facts() if isinstance(part, str) and not part.isdigit() and _plain(part)}


# ── the template ────────────────────────────────────────────────────────────────────────────────────────────────────


def closest(item: Item, liked: Mapping[int, frozenset[Fact]]) -> list[int]:
    """Labels of the liked item that shares most with an item, and of those that share all of that with it too; the later
    first, at most `NEAR`, none if nothing is shared."""
    mine = frozenset(fact for fact in item.facts() if isinstance(fact[1], str))
    shares = {label: mine & facts for label, facts in liked.items()}
    best = max(shares, key=lambda label: (len(shares[label]), label), default=None)
    if best is None or not shares[best]:
        return []
    return sorted((label for label in shares if shares[label] >= shares[best]), reverse=True)[:NEAR]


def template(candidate: Candidate, rank: int, cited: Sequence[Recent]) -> Reason:
    """A sentence of true shared attributes; without any, what brought the candidate here."""
    for entry in cited:
        if entry.item is not None and (common := _common(candidate.item, entry.item)):
            what = " and ".join([", ".join(common[:-1]), common[-1]] if len(common) > 1 else common)
            value = "" if entry.event.value is None else f" {entry.event.value:g}"
            text = f'Shares {what} with "{entry.item.title}", which you {entry.verb}{value}.'
            return Reason(item_id=candidate.item.id, rank=rank, reason=text, evidence=[entry.item.id], grounded=False)
    origins = {
        "query": "Matches what you asked for.",
        "context": "Close to what you are looking at.",
        "similar": "Close in content to what you liked.",
        "collaborative": "Liked by people who like what you like.",
        "popular": "Popular with others.",
    }
    text = next((text for source, text in origins.items() if source in candidate.sources), "Not seen by you yet.")
    return Reason(item_id=candidate.item.id, rank=rank, reason=text, evidence=[], grounded=False)


def _common(one: Item, other: Item) -> list[str]:
    """Attribute values in words that both have; at most three."""
    theirs = set(other.facts())
    return [part for key, part in one.facts() if isinstance(part, str) and (key, part) in theirs][:3]
