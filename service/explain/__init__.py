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
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.context import CallContext
from service.errors import InvalidOutput, ModelError, PromptError
from service.explain.attribution import Attribution, Attributor
from service.explain.check import wanted
from service.explain.lines import Each, Lines, Loose, grammar, joined_labels
from service.explain.reasons import Template, claim_of, claimed
from service.explain.support import Liked, Support, liked_entries, supports_of
from service.explain.wording import spoken
from service.llm import LLM, Call, OutputConstraint
from service.prompts import LETTERS, Prompt, variables
from service.schema import Candidate, Degraded, Reason, Usage, UserState

__all__ = [
    "Attribution",
    "Attributor",
    "Explained",
    "Style",
    "Subject",
    "Writer",
    "explain",
    "material",
]

PROSE_TOKENS = 100
"""For what a model says around its lines if no grammar keeps it from that."""


@dataclass(frozen=True)
class Subject:
    """A person, what was chosen for them, and what they asked for."""

    state: UserState
    chosen: Sequence[Candidate]
    instruction: str | None = None


@dataclass(frozen=True)
class Style:
    """How reasons are written. `prompt`: the template, in the language of the reasons; `top`: the
    model speaks for the first so many; `deadline`: the event loop's time to be done by; `full`:
    reasons carry what moved the item."""

    prompt: Prompt
    top: int
    deadline: float
    line_tokens: int
    locale: str | None = None
    full: bool = False


@dataclass(frozen=True)
class Writer:
    """The model that writes reasons. `constraint`: what its answers are held to; without a grammar
    the prompt says what may be cited."""

    llm: LLM
    constraint: OutputConstraint = OutputConstraint()


@dataclass(frozen=True)
class Explained:
    """What explaining cost, and whether the model could not do its part."""

    usage: Usage = Usage()
    degraded: Degraded | None = None


async def explain(
    subject: Subject,
    style: Style,
    call: CallContext,
    *,
    writer: Writer | None = None,
    attributor: Attributor | None = None,
    seen: Subject | None = None,
) -> AsyncGenerator[Reason | Explained, None]:
    """A reason for each of the chosen in order, as soon as it is there, then what it took.

    The writer speaks for the first `style.top` where its words pass the check, templates for the
    rest. `attributor` finds what to cite for the first `top`, in at most half of the time. `seen`:
    the subject as models may see it, where that is not all: what a model says is checked against
    what it saw, a template may say whatever is true.
    """
    call, language = call.part(), spoken(style.prompt.ref.id)
    seen = seen or subject
    attribution = await _attribute(attributor, seen, style, call)
    liked, supports = _evidence(subject, attribution)
    shown, claims = (liked, supports) if seen is subject else _evidence(seen, attribution)
    asked = _spoken_for(claims, style.top) if writer is not None else []
    template = Template(liked, language, wanted(subject.instruction or ""), subject.state.seen)
    answer = None
    degraded = None
    if writer is not None and asked:
        answer = _ask(writer, seen, style, attribution, call)
        degraded = _degraded(writer, InvalidOutput.code) if answer is None else None
    try:
        for n, candidate in enumerate(subject.chosen):
            line, failed = await _line(answer, asked, n)
            if writer is not None and failed:
                degraded = degraded or _degraded(writer, failed)
            claim = claim_of(line, seen.chosen[n].item, claims[n], shown, language)
            if claim is None:
                reason = template.reason(candidate, n + 1, supports[n])
            else:
                reason = claimed(candidate, n + 1, claim, claims[n], liked, language)
            yield _attributed(reason, attribution, style)
        if answer is not None:
            await answer.finish()
    finally:
        if answer is not None:
            await answer.close()
    yield Explained(call.usage, degraded)


async def _line(answer: Each | Loose | None, asked: Sequence[int], n: int) -> tuple[str, str]:
    """What the model says of the n-th item; empty where it isn't asked. And the code of the error
    if it failed."""
    if answer is None or n not in asked:
        return "", ""
    try:
        return await answer.of(asked.index(n)), ""
    except ModelError as error:
        return "", error.code


def _attributed(reason: Reason, attribution: Attribution, style: Style) -> Reason:
    """With what moved the item, if that is wanted and known."""
    if not style.full or reason.rank > len(attribution.by):
        return reason
    return reason.model_copy(update={"attribution": dict(attribution.by[reason.rank - 1])})


async def _attribute(
    attributor: Attributor | None, seen: Subject, style: Style, call: CallContext
) -> Attribution:
    now = asyncio.get_running_loop().time()
    if attributor is None or now >= style.deadline:
        return Attribution()
    return await attributor.attribute(
        seen.state,
        seen.chosen[: style.top],
        context=call,
        line_tokens=style.line_tokens,
        until=(now + style.deadline) / 2,
    )


def _evidence(subject: Subject, attribution: Attribution) -> tuple[Liked, list[Support]]:
    return liked_entries(subject.state), supports_of(subject.state, subject.chosen, attribution)


def _ask(
    writer: Writer, seen: Subject, style: Style, attribution: Attribution, context: CallContext
) -> Each | Loose | None:
    """Begin the model's answer: with a grammar each item by itself, at the same time; without one
    all at once. None if the template fails."""
    language = spoken(style.prompt.ref.id)
    shown = material(seen, style, writer.constraint, attribution)
    try:
        prompts = [style.prompt.render(rendering) for rendering in shown]
    except PromptError:
        return None
    call = Call(
        [],
        language.line_tokens,
        temperature=style.prompt.sampling.temperature,
        context=context,
    )
    supports = supports_of(seen.state, seen.chosen, attribution)
    asked = _spoken_for(supports, style.top)
    if not writer.constraint.grammar:
        most = call.max_tokens * len(asked) + PROSE_TOKENS
        whole = replace(call, messages=prompts[0], max_tokens=most)
        return Loose(writer.llm, whole, style.deadline, language)
    answers = []
    for messages, n in zip(prompts, asked, strict=True):
        rule = grammar(supports[n].choices, language)
        one_line = replace(call, messages=messages, grammar=rule)
        answers.append(Lines(writer.llm, one_line, style.deadline))
    return Each(answers)


def material(
    subject: Subject,
    style: Style,
    constraint: OutputConstraint,
    attribution: Attribution = Attribution(),
) -> list[dict[str, Any]]:
    """What the prompt is rendered with, for each time that the model is asked: those of the chosen
    that it speaks for, what each has in common and, where no grammar tells, what may be cited for
    it. With a grammar one at a time; without one all at once: such a model mostly reads a person's
    history by the token and for money."""
    supports = supports_of(subject.state, subject.chosen, attribution)
    asked = _spoken_for(supports, style.top)
    renderings = []
    for group in [[n] for n in asked] if constraint.grammar else [asked]:
        shown = variables(
            subject.state,
            [subject.chosen[n] for n in group],
            instruction=subject.instruction,
            locale=style.locale,
            line_tokens=style.line_tokens,
        )
        for line, n in zip(shown["candidates"], group, strict=True):
            line["common"] = ", ".join(supports[n].common)
            labels = " or ".join(map(joined_labels, supports[n].choices))
            line["cite"] = "" if constraint.grammar else labels
        renderings.append(shown)
    return renderings


def _spoken_for(supports: Sequence[Support], top: int) -> list[int]:
    """Places, among the first `top`, of the items that something can be said of."""
    return [n for n, support in enumerate(supports[: min(top, len(LETTERS))]) if support.common]


def _degraded(writer: Writer, reason: str) -> Degraded:
    explained_by = f"explain:{writer.llm.alias}"
    return Degraded.model_validate({"from": explained_by, "to": "template", "reason": reason})
