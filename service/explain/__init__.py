"""Why each of the best was chosen: the model's words if every claim in them checks out, else a true
template.

The evidence of an item is the liked ones that moved its score most, where a model can tell, else
those that share most with it; the grammar offers no others, and without one a line that cites
others is dropped. The sentence begins with their titles, and the model continues it: `Like
"Gattaca", it is …`. A model that a grammar binds is asked for each item by itself: neither evidence
nor words depend on what the item was chosen beside. It stands only if it names something the cited
items and the chosen one share, and says nothing else that could be false: no other title,
attribute, number, name or plot.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from service.errors import InvalidOutput, ModelError, ModelTimeout, PromptError
from service.explain.attribution import Attribution, Attributor
from service.explain.check import grounded, wanted, wished
from service.explain.wording import ENGLISH, VALUE, Language, name, spoken, visible
from service.llm import LLM, Call, OutputConstraint, Piece
from service.llm.thinking import answer_of
from service.prompts import LETTERS, Prompt, variables
from service.schema import Candidate, Degraded, Fact, Item, Reason, Recent, Usage, UserState

__all__ = ["Attribution", "Attributor", "Explained", "explain", "material"]

EVIDENCE = 2
"""At most so many cited items a reason."""
NEAR = 3
"""So many liked items a chosen one may be justified by."""
PROSE = 100
"""Tokens for what a model says around its lines if no grammar keeps it from that."""
LONGEST_LINE = 1_000
"""Characters that are waited for; a model that no grammar binds may write any number."""


@dataclass(frozen=True)
class Explained:
    """What explaining cost, and whether the model could not do its part."""

    usage: Usage = Usage()
    degraded: Degraded | None = None


@dataclass(frozen=True)
class Support:
    """What speaks for a chosen item, as labels of liked entries. `moved`: those that moved its
    score most; `choices`: sets of which a model may say that the item shares something with them,
    the best first; `common`: what that is, in words. Where that is nothing, the model isn't
    asked."""

    moved: Sequence[int] = ()
    choices: Sequence[tuple[int, ...]] = ()
    common: Sequence[str] = ()


async def explain(
    state: UserState,
    chosen: Sequence[Candidate],
    llm: LLM | None,
    prompt: Prompt,
    *,
    top: int,
    deadline: float,
    line_tokens: int,
    attribution: Attributor | None = None,
    full: bool = False,
    instruction: str | None = None,
    locale: str | None = None,
    held: OutputConstraint = OutputConstraint(),
    seen: tuple[UserState, Sequence[Candidate], str | None] | None = None,
) -> AsyncGenerator[Reason | Explained, None]:
    """A reason for each of `chosen` in order, as soon as it is there, then what it took; in the
    prompt's language.

    The model (None: no model) speaks for the first `top`, until `deadline`, a time of the event
    loop; templates do for the rest, and where its words fail the check. `attribution` finds what to
    cite for the first `top`, in at most half of the time; with `full`, reasons carry it. `held`:
    without a grammar the prompt says what may be cited. `seen`: the person, the chosen and the
    instruction as models may see them, where that is not all: what a model says is checked against
    what it saw, a template may say whatever is true.
    """
    language, moved, now = spoken(prompt.ref.id), Attribution(), asyncio.get_running_loop().time()
    told, seeable, heard = seen or (state, chosen, instruction)
    if attribution is not None and now < deadline:
        moved = await attribution.moved(
            told, seeable[:top], line_tokens=line_tokens, until=(now + deadline) / 2
        )
    liked, supports = _liked(state), _supports(state, chosen, moved)
    known, claims = (_liked(told), _supports(told, seeable, moved)) if seen else (liked, supports)
    asked = _asked(claims, top) if llm is not None else []
    usage, degraded, wish = moved.usage, None, wanted(instruction or "")
    said: Each | Loose | None = None
    if llm is not None and asked:
        shown = material(
            told,
            seeable,
            top=top,
            line_tokens=line_tokens,
            moved=moved,
            instruction=heard,
            locale=locale,
            held=held,
        )
        try:
            prompts = [prompt.render(one) for one in shown]
        except PromptError:
            degraded = _degraded(llm, InvalidOutput.code)
        else:
            call = Call([], language.line_tokens, temperature=prompt.sampling.temperature)
            if held.grammar:
                rules = [grammar(claims[n].choices, language) for n in asked]
                pairs = zip(prompts, rules, strict=True)
                said = Each(
                    [
                        Lines(llm, replace(call, messages=one, grammar=rule), deadline)
                        for one, rule in pairs
                    ]
                )
            else:
                whole = replace(
                    call, messages=prompts[0], max_tokens=call.max_tokens * len(asked) + PROSE
                )
                said = Loose(llm, whole, deadline, language)
    try:
        for n, candidate in enumerate(chosen):
            line = ""
            if llm is not None and said is not None and n in asked:
                try:
                    line = await said.of(asked.index(n))
                except ModelError as error:
                    degraded = degraded or _degraded(llm, error.code)
            labels, why = _stands(line, seeable[n].item, claims[n], known, language)
            if why:
                reason = _worded(candidate, n + 1, labels, why, claims[n], liked, language)
            else:
                seen_before = candidate.item.id in state.seen
                reason = template(
                    candidate, n + 1, supports[n], liked, language, wish=wish, known=seen_before
                )
            if full and n < len(moved.by):
                reason = reason.model_copy(update={"attribution": dict(moved.by[n])})
            yield reason
        if said is not None:
            usage += await said.finish()
    finally:
        if said is not None:
            await said.close()
    yield Explained(usage, degraded)


def material(
    state: UserState,
    chosen: Sequence[Candidate],
    *,
    top: int,
    line_tokens: int,
    moved: Attribution = Attribution(),
    instruction: str | None = None,
    locale: str | None = None,
    held: OutputConstraint = OutputConstraint(),
) -> list[dict[str, Any]]:
    """What the prompt is rendered with, for each time that the model is asked: those of `chosen`
    that it speaks for, what each has in common and, where no grammar tells, what may be cited for
    it. With a grammar one at a time; without one all at once: such a model mostly reads a person's
    history by the token and for money."""
    supports = _supports(state, chosen, moved)
    asked = _asked(supports, top)
    found = []
    for group in [[n] for n in asked] if held.grammar else [asked]:
        shown = variables(
            state,
            [chosen[n] for n in group],
            instruction=instruction,
            locale=locale,
            line_tokens=line_tokens,
        )
        for line, n in zip(shown["candidates"], group, strict=True):
            line["common"] = ", ".join(supports[n].common)
            line["cite"] = "" if held.grammar else " or ".join(map(_labels, supports[n].choices))
        found.append(shown)
    return found


def _asked(supports: Sequence[Support], top: int) -> list[int]:
    """Of the first `top`, whatever the others among them are: those that have something to say."""
    return [n for n, support in enumerate(supports[: min(top, len(LETTERS))]) if support.common]


def _degraded(llm: LLM, reason: str) -> Degraded:
    return Degraded.model_validate(
        {"from": f"explain:{llm.alias}", "to": "template", "reason": reason}
    )


# ── evidence ──────────────────────────────────────────────────────────────────────────────────────


def _liked(state: UserState) -> dict[int, tuple[Recent, Item]]:
    """Liked entries that can be named, by label."""
    entries = {
        n: (entry, entry.item)
        for n, entry in enumerate(state.recent, 1)
        if entry.item is not None and entry.weight > 0
    }
    return {n: (entry, item) for n, (entry, item) in entries.items() if name(item)}


def _supports(state: UserState, chosen: Sequence[Candidate], moved: Attribution) -> list[Support]:
    """By attribution where something liked speaks for the item, else by what is shared; an item
    does not speak for itself."""
    every = {label: item for label, (_, item) in _liked(state).items()}
    facts = {label: words(item) for label, item in every.items()}
    found = []
    for n, candidate in enumerate(chosen):
        items = {label: item for label, item in every.items() if item.id != candidate.item.id}
        labels = moving(items, moved.by[n]) if n < len(moved.by) else []
        if labels:
            sets = [tuple(labels), tuple(labels[:1])]
            common = {
                cited: _common(candidate.item, [items[label] for label in cited]) for cited in sets
            }
            choice = next((cited for cited in sets if common[cited]), ())
            found.append(Support(labels, [choice] if choice else [], common.get(choice, [])))
        elif labels := closest(candidate.item, {label: facts[label] for label in items}):
            choices = [(one,) for one in labels] + list(combinations(labels, EVIDENCE))
            found.append(Support((), choices, _common(candidate.item, [items[labels[0]]])))
        else:
            found.append(Support())
    return found


def moving(liked: Mapping[int, Item], by: Mapping[str, float]) -> list[int]:
    """Labels of the liked items that moved an item's score up, those that moved it most first, at
    most `EVIDENCE`."""
    latest = {item.id: label for label, item in liked.items()}
    labels = [label for one, label in latest.items() if by.get(one, 0) > 0]
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
    return _in_words(item, words(item).intersection(*map(words, others)))


def _in_words(item: Item, facts: Set[Fact]) -> list[str]:
    """At most three of its facts."""
    return list(dict.fromkeys(str(part) for key, part in item.facts() if (key, part) in facts))[:3]


# ── the model's lines ─────────────────────────────────────────────────────────────────────────────


class Lines:
    """A model's answer line by line, each when it is whole, none after the deadline (a time of the
    event loop)."""

    def __init__(self, llm: LLM, call: Call, deadline: float) -> None:
        self._pieces = llm.stream(call)
        self._deadline = deadline
        self._text = ""
        self._usage = Usage()

    async def next(self) -> str:
        """Raises a `ModelError` when there is none in time."""
        while "\n" not in self._text:
            if len(self._text) > LONGEST_LINE:
                raise InvalidOutput("a line without an end")
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
        """Tokens, as far as the model told by the deadline."""
        with suppress(ModelError):
            while await self._piece():
                pass
        return self._usage

    async def close(self) -> None:
        """The model's work is stopped if it isn't done."""
        await self._pieces.aclose()

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


class Each:
    """Answers of one line each, asked for at the same time. Whoever is told again and again to
    hurry, as a client's connection that is gone tells it, passes that on once: a call must not be
    stopped halfway through hanging up."""

    def __init__(self, answers: Sequence[Lines]) -> None:
        self._answers = answers
        self._lines = [asyncio.create_task(answer.next()) for answer in answers]

    async def of(self, place: int) -> str:
        await asyncio.wait([self._lines[place]])
        return self._lines[place].result()

    async def finish(self) -> Usage:
        return sum([await answer.finish() for answer in self._answers], Usage())

    async def close(self) -> None:
        for line in self._lines:
            line.add_done_callback(lambda line: line.cancelled() or line.exception())
            line.cancel()
        await asyncio.wait(self._lines)
        for answer in self._answers:
            await answer.close()


class Loose(Lines):
    """Of a model that no grammar binds. What is no line is skipped; a line is its item's by the
    letter it begins with."""

    def __init__(self, llm: LLM, call: Call, deadline: float, language: Language) -> None:
        super().__init__(llm, call, deadline)
        self._language = language
        self._found: dict[str, str] = {}

    async def of(self, place: int) -> str:
        """As the grammar would have it; empty if the model passed the item over."""
        letter = LETTERS[place]
        while not any(one >= letter for one in self._found):
            if found := tidied(await self.next(), self._language):
                self._found.setdefault(found[0], found)
        return self._found.get(letter, "")


_LOOSE = re.compile(
    r"\W*(?:\d+\W+)?([A-Z])\W{1,6}(h\d+(?:\W{1,5}(?:(?:and|or) )?h\d+)*)\W{1,6}(.+)"
)


def tidied(line: str, language: Language) -> str:
    """A line that says what the grammar allows, in its form; empty for any other."""
    match = _LOOSE.fullmatch(answer_of(line)) if len(line) <= LONGEST_LINE else None
    if match is None:
        return ""
    clause = re.sub(r"^(it |它)", "", match[3].strip(" *_`"), flags=re.IGNORECASE)
    clause = clause[:1].lower() + clause[1:].removesuffix(language.stop) + language.stop
    labels = ",".join(re.findall(r"h\d+", match[2]))
    return f"{match[1]} [{labels}] {clause}" if re.fullmatch(language.rule()[1:-1], clause) else ""


def grammar(choices: Sequence[tuple[int, ...]], language: Language = ENGLISH) -> str:
    """llguidance: one item's line: one of the sets of labels that it may cite, then a bounded
    clause."""
    options = " | ".join(f'"{_labels(labels)}"' for labels in choices)
    return f'start: "A [" ({options}) "] " why\nwhy: {language.rule()}\n'


def _labels(labels: Sequence[int]) -> str:
    return ",".join(f"h{label}" for label in labels)


_LINE = re.compile(r"[A-Z] \[(h\d+(?:,h\d+)*)\] (.+)")


def _stands(
    line: str,
    item: Item,
    support: Support,
    known: Mapping[int, tuple[Recent, Item]],
    language: Language,
) -> tuple[tuple[int, ...], str]:
    """The labels that a model's line cites, and its clause; an empty one if the line does not
    hold."""
    match = _LINE.fullmatch(line.strip()) if len(line) <= LONGEST_LINE else None
    said = {int(label[1:]) for label in match[1].split(",")} if match else set()
    labels = next((labels for labels in support.choices if set(labels) == said), None)
    if match and labels is not None:
        why = language.finished(match[2])
        if why and grounded(why, item, [known[label][1] for label in labels], language):
            return labels, why
    return (), ""


def _worded(
    candidate: Candidate,
    rank: int,
    labels: Sequence[int],
    why: str,
    support: Support,
    liked: Mapping[int, tuple[Recent, Item]],
    language: Language,
) -> Reason:
    """In the model's words, which hold."""
    cited = [liked[label][1] for label in labels]
    more = [liked[label][1] for label in support.moved if label not in labels]
    return Reason(
        item_id=candidate.item.id,
        rank=rank,
        reason=language.sentence(cited, why, more),
        evidence=[item.id for item in [*cited, *more]],
        grounded=True,
    )


def template(
    candidate: Candidate,
    rank: int,
    support: Support,
    liked: Mapping[int, tuple[Recent, Item]],
    language: Language,
    *,
    wish: str,
    known: bool,
) -> Reason:
    """A sentence of true shared attributes, else of those that the `wish` (in plain words) names,
    else of what moved the item's score; without any, what brought the candidate here, or whether it
    is `known` to the person."""
    cited = [
        liked[label] for label in support.moved or [labels[0] for labels in support.choices[:1]]
    ]
    items = [item for _, item in cited]
    if support.common:
        text = language.shared(support.common, *cited[0], items[1:])
    elif named := _in_words(
        candidate.item, {one for one in words(candidate.item) if wished(str(one[1]), wish)}
    ):
        text = language.matched(named, items)
    elif items:
        text = language.speaks.format(titles=language.titles(items))
    else:
        text = language.origin(candidate) or (language.known if known else language.unseen)
    return Reason(
        item_id=candidate.item.id,
        rank=rank,
        reason=text,
        evidence=[item.id for item in items],
        grounded=False,
    )
