"""Why each of the best was chosen: the model's sentence if every claim in it checks out, else a true template.

The grammar lets evidence be nothing but labels of items the person liked. A sentence stands only if it names a cited item
or a shared attribute, and nothing that is not in the cited items or the candidate: no other title, no attribute they
don't share, no number, no name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from service.errors import InvalidOutput, ModelError, ModelTimeout, PromptError
from service.llm import LLM, Call
from service.prompts import LETTERS, Prompt, harmless, variables
from service.schema import Candidate, Degraded, Item, Reason, Recent, Usage, UserState

EVIDENCE = 2
"""At most so many cited items a reason."""
LONGEST = 160
"""Characters of a sentence that the grammar allows; the prompt asks for less."""
LINE_TOKENS = 80


@dataclass(frozen=True)
class Explained:
    """What explaining cost, and whether the model could not do its part."""

    usage: Usage = Usage()
    degraded: Degraded | None = None


async def explain(
    state: UserState,
    chosen: Sequence[Candidate],
    known: Iterable[Item],
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
    rest, and where its words fail the check. `known`: items whose titles and attributes a sentence may wrongly name.
    """
    liked = {n: entry for n, entry in enumerate(state.recent, 1) if entry.weight > 0 and entry.item is not None}
    vocabulary = [*known, *(entry.item for entry in state.recent if entry.item is not None)]
    usage, degraded, said = Usage(), None, 0
    if llm is not None and liked and top and chosen:
        asked = chosen[:top]
        shown = variables(state, asked, instruction=instruction, locale=locale, line_tokens=line_tokens)
        try:
            call = Call(
                prompt.render(shown),
                max_tokens=LINE_TOKENS * len(asked),
                grammar=grammar(len(asked), tuple(liked)),
                temperature=prompt.sampling.temperature,
            )
            async with asyncio.timeout_at(deadline), aclosing(llm.stream(call)) as pieces:
                line = ""
                async for piece in pieces:
                    usage = piece.usage or usage
                    *whole, line = (line + piece.text).split("\n")
                    for text in whole if piece.usage is None else [*whole, line]:
                        if text and said < len(asked):
                            yield _reason(asked[said], said + 1, text, liked, vocabulary)
                            said += 1
            if said < len(asked):
                raise InvalidOutput(f"{said} of {len(asked)} lines")
        except (ModelError, PromptError, TimeoutError) as error:
            degraded = _degraded(llm.alias, error)
    for n in range(said, len(chosen)):
        yield template(chosen[n], n + 1, closest(chosen[n].item, liked.values()))
    yield Explained(usage, degraded)


def _degraded(alias: str, error: Exception) -> Degraded:
    if isinstance(error, PromptError):
        error = InvalidOutput(error.message)
    code = error.code if isinstance(error, ModelError) else ModelTimeout.code
    return Degraded.model_validate({"from": f"explain:{alias}", "to": "template", "reason": code})


def grammar(count: int, labels: Sequence[int]) -> str:
    """llguidance: `count` lines, letters in order, one to `EVIDENCE` different labels of `labels`, one bounded sentence."""
    lines = ' "\\n" '.join(f'"{letter} [" ev::0x0 "] " why' for letter in LETTERS[:count])
    options = " | ".join(f'"h{label}" more::set_bit({n}) %if bit_clear({n})' for n, label in enumerate(labels))
    span = f"[0:{len(labels)}]"
    return (
        f"start: {lines}\n"
        f"ev::_: {options}\n"
        f'more::_: "" | "," ev::_ %if bit_count_lt({span},{min(EVIDENCE, len(labels))})\n'
        f"why: /[A-Z][^\\n\\[\\]]{{20,{LONGEST}}}[.!]/\n"
    )


_LINE = re.compile(r"[A-Z] \[(h\d+(?:,h\d+)*)\] (.+)")


def _reason(candidate: Candidate, rank: int, line: str, liked: dict[int, Recent], known: Sequence[Item]) -> Reason:
    """The model's line if it holds, else a template with the evidence it cited."""
    if match := _LINE.fullmatch(line.strip()):
        cited = [liked[n] for n in dict.fromkeys(int(label[1:]) for label in match[1].split(",")) if n in liked]
        text = first_sentence(match[2])
        items = [entry.item for entry in cited if entry.item is not None]
        if items and grounded(text, candidate.item, items, known):
            ids = [item.id for item in items]
            return Reason(item_id=candidate.item.id, rank=rank, reason=text, evidence=ids, grounded=True)
    return template(candidate, rank, closest(candidate.item, liked.values()))


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    match = re.match(r".+?[.!](?=\s|$)", text.strip())
    return match[0] if match else ""


# ── the check ───────────────────────────────────────────────────────────────────────────────────────────────────────


def grounded(text: str, candidate: Item, cited: Sequence[Item], known: Iterable[Item]) -> bool:
    """Does every claim that can be looked up hold for the cited items and the candidate?"""
    mine = [candidate, *cited]
    plain = _plain(text)
    titles = {_plain(item.title) for item in mine if item.title}
    if any(not any(_plain(quoted) in title for title in titles) for quoted in re.findall(r'"([^"]+)"', text)):
        return False
    rest = plain
    for title in sorted(titles, key=len, reverse=True):
        rest = _without(rest, title)
    if any(_mentions(rest, _plain(item.title)) for item in known if len(item.title) > 3):
        return False
    shared = {value for item in cited for value in _values(item)} & _values(candidate)
    others = {value for item in [*known, *mine] for value in _values(item)} - shared
    if any(_names(rest, value) for value in others):
        return False
    facts = " ".join(_plain(f"{item.title} {' '.join(str(part) for _, part in item.facts())} {item.text}") for item in mine)
    words = re.findall(r"[\w'-]+", text)
    loose = [word for word in words[1:] if word[0].isdigit() or (word[0].isupper() and word not in {"I", "I'm"})]
    if any(not _mentions(facts, _plain(word)) for word in loose) or re.search(r"\bh\d+\b", text):
        return False
    named = any(_mentions(plain, _plain(item.title)) for item in cited if item.title)
    return bool(text) and (named or any(_names(rest, value) for value in shared))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w'-]+", harmless(text).casefold()))


def _mentions(text: str, phrase: str) -> bool:
    return bool(phrase) and f" {phrase} " in f" {text} "


def _without(text: str, phrase: str) -> str:
    return f" {text} ".replace(f" {phrase} ", " · ").strip() if phrase else text


def _names(text: str, value: str) -> bool:
    """Is the attribute value named, in any form that keeps its stem: comedy, comedies; romance, romantic?"""
    if len(value) < 6 or " " in value:
        return _mentions(text, value)
    return any(word.startswith(value[:5]) for word in text.split())


def _values(item: Item) -> set[str]:
    """What an item is, in words; numbers are checked as facts instead."""
    return {_plain(part) for _, part in item.facts() if isinstance(part, str) and not part.isdigit() and _plain(part)}


# ── the template ────────────────────────────────────────────────────────────────────────────────────────────────────


def closest(item: Item, liked: Iterable[Recent]) -> list[Recent]:
    """The liked item that shares most attribute values, the later on ties; none if nothing is shared."""
    scored = [(len(_common(item, entry.item)), n, entry) for n, entry in enumerate(liked) if entry.item is not None]
    best = max(scored, key=lambda entry: entry[:2], default=None)
    return [best[2]] if best and best[0] else []


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
        "popular": "Popular with others.",
    }
    text = next((text for source, text in origins.items() if source in candidate.sources), "Not seen by you yet.")
    return Reason(item_id=candidate.item.id, rank=rank, reason=text, evidence=[], grounded=False)


def _common(one: Item, other: Item) -> list[str]:
    """Attribute values that both have, in the first one's words; at most three."""
    theirs = set(other.facts())
    found = [
        part if isinstance(part, str) else f"{key} {part}"
        for key, part in one.facts()
        if (key, part) in theirs and not isinstance(part, bool)
    ]
    return sorted(found, key=lambda part: part[0].islower())[:3]
