"""Explains why each of the first items was chosen: in a model's words if every claim in them is
verified, else by a template.

A reason cites liked items as evidence: those that moved the chosen item's score most, if a scoring
model measured that, else those that share most attributes with it. A grammar lets the model cite
only these; without a grammar, lines that cite others are dropped. The sentence begins with the
cited titles, and the model completes it: `Like "Gattaca", it is …`. With a grammar each item has a
prompt of its own, so that its reason doesn't depend on the other chosen items. The model's clause
is used only if it names something that the chosen and all cited items share, and contains no other
title, attribute, number, name or plot.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.context import CallContext
from service.errors import InvalidOutput, ModelError, PromptError
from service.explain.check import Reasons, claim_of, wanted
from service.explain.evidence import (
    Attribution,
    Attributor,
    Liked,
    Support,
    liked_entries,
    supports_of,
)
from service.explain.lines import Each, Lines, Loose, grammar, joined_labels
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
    "supports_of",
]

PROSE_TOKENS = 100
"""Extra output tokens for text around the requested lines, when no grammar prevents it."""


@dataclass(frozen=True)
class Subject:
    """What is explained: a person, the items chosen for them, and their instruction."""

    state: UserState
    chosen: Sequence[Candidate]
    instruction: str | None = None


@dataclass(frozen=True)
class Style:
    """How reasons are written. `prompt`: the template, in the language of the reasons. `top`: for
    how many items the model may write. `deadline`: time of the event loop. `full`: whether reasons
    contain their attribution."""

    prompt: Prompt
    top: int
    deadline: float
    line_tokens: int
    locale: str | None = None
    full: bool = False


@dataclass(frozen=True)
class Writer:
    """The model that writes reasons. `constraint`: what constrains its output; without a grammar,
    the prompt lists what may be cited."""

    llm: LLM
    constraint: OutputConstraint = OutputConstraint()


@dataclass(frozen=True)
class Explained:
    """Usage of all explaining. `degraded`: why templates replaced the model, if it failed for any
    item."""

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
    """Yields a reason for each chosen item, in order, then the usage.

    The writer writes for the first `style.top`; templates replace words that fail the check, and
    serve the rest. `attributor` measures what to cite, in at most half of the time. `seen`: the
    subject as models may see it, if they may not see all of `subject`. A model's words are checked
    against `seen`; templates use `subject`.
    """
    call, language = call.part(), spoken(style.prompt.ref.id)
    seen = seen or subject
    attribution = await _attribute(attributor, seen, style, call)
    liked, supports = _evidence(subject, attribution)
    shown, claims = (liked, supports) if seen is subject else _evidence(seen, attribution)
    reasons = Reasons(liked, language, wanted(subject.instruction or ""), subject.state.seen)
    asked = _spoken_for(claims, style.top) if writer is not None else []
    answer = _ask(writer, seen, style, claims, call) if writer is not None and asked else None
    failure = InvalidOutput.code if asked and answer is None else ""
    try:
        for n, candidate in enumerate(subject.chosen):
            line = ""
            if answer is not None and n in asked:
                try:
                    line = await answer.of(asked.index(n))
                except ModelError as error:
                    failure = failure or error.code
            claim = claim_of(line, seen.chosen[n].item, claims[n], shown, language)
            support = supports[n] if claim is None else claims[n]
            reason = reasons.reason(candidate, n + 1, support, claim)
            if style.full and n < len(attribution):
                reason = reason.model_copy(update={"attribution": dict(attribution[n])})
            yield reason
        if answer is not None:
            await answer.finish()
    finally:
        if answer is not None:
            await answer.close()
    yield Explained(call.usage, _degraded(writer, failure) if writer and failure else None)


async def _attribute(
    attributor: Attributor | None, seen: Subject, style: Style, call: CallContext
) -> Attribution:
    now = asyncio.get_running_loop().time()
    if attributor is None or now >= style.deadline:
        return []
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
    writer: Writer, seen: Subject, style: Style, supports: Sequence[Support], context: CallContext
) -> Each | Loose | None:
    """Starts the model's calls: with a grammar one for each item, all at the same time; without one
    a single call. Returns None if the template fails."""
    language = spoken(style.prompt.ref.id)
    try:
        prompts = [
            style.prompt.render(shown)
            for shown in material(seen, style, writer.constraint, supports)
        ]
    except PromptError:
        return None
    call = Call(
        [],
        language.line_tokens,
        temperature=style.prompt.sampling.temperature,
        context=context,
    )
    asked = _spoken_for(supports, style.top)
    if not writer.constraint.grammar:
        max_tokens = call.max_tokens * len(asked) + PROSE_TOKENS
        whole = replace(call, messages=prompts[0], max_tokens=max_tokens)
        return Loose(writer.llm, whole, style.deadline, language)
    calls = [
        replace(call, messages=messages, grammar=grammar(supports[n].choices, language))
        for messages, n in zip(prompts, asked, strict=True)
    ]
    return Each([Lines(writer.llm, one_line, style.deadline) for one_line in calls])


def material(
    subject: Subject, style: Style, constraint: OutputConstraint, supports: Sequence[Support]
) -> list[dict[str, Any]]:
    """Variables of each prompt for reasons: the items, what each shares with liked ones and,
    without a grammar, what may be cited for it. `supports`: what speaks for each chosen item.

    With a grammar each item has a prompt. Without one a single prompt holds all: such models
    usually charge by the token, and every prompt repeats the history.
    """
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
            cited = [] if constraint.grammar else supports[n].choices
            line["cite"] = " or ".join(map(joined_labels, cited))
        renderings.append(shown)
    return renderings


def _spoken_for(supports: Sequence[Support], top: int) -> list[int]:
    """Places, among the first `top`, of the items that share something with a liked one."""
    return [n for n, support in enumerate(supports[: min(top, len(LETTERS))]) if support.common]


def _degraded(writer: Writer, reason: str) -> Degraded:
    return Degraded.model_validate(
        {"from": f"explain:{writer.llm.alias}", "to": "template", "reason": reason}
    )
