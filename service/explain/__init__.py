"""Explains why each of the first items was chosen: in a model's words if every one of them is
accounted for, else by a template.

A sentence says at most two things: what links the item to the person, or to others, and what the
item is. The link is a deed of the person with an item that is related to the chosen one: they share
attributes, their texts are near, or people choose both; of these, the one that draws it most by
these relations and by the learned sources. Nothing unrelated is cited. A model sees only facts
about the item, writes what the item is, and is checked; the link is worded by the service, which
knows the verb of each event in each language.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.context import CallContext
from service.errors import InvalidOutput, ModelError, PromptError
from service.explain.claims import Sayable, told
from service.explain.grounds import Grounds, gather
from service.explain.language import Language, spoken
from service.explain.sentences import Clause, Sentences
from service.explain.writing import Kept, Sheet, Task, Writer, Writing, sheet_of
from service.prompts import LETTERS, Prompt
from service.schema import Candidate, Degraded, Reason, Usage, UserState

__all__ = [
    "Explained",
    "Grounds",
    "Kept",
    "Style",
    "Subject",
    "Writer",
    "explain",
    "gather",
    "sheets",
    "spoken",
]


@dataclass(frozen=True)
class Subject:
    """What is explained: a person, and the items chosen for them. `asked`: values that the person's
    own words ask for. `grounds`: what reasons can be true by, as `gather` finds it."""

    state: UserState
    chosen: Sequence[Candidate]
    asked: Sequence[str] = ()
    grounds: Grounds = field(default_factory=Grounds)


@dataclass(frozen=True)
class Style:
    """How reasons are written. `prompt`: the template, None if there is none in the language of the
    reasons; `top`: for how many items the model may write; `deadline`: time of the event loop;
    `full`: whether reasons contain their facts and attribution."""

    prompt: Prompt | None
    top: int
    deadline: float
    locale: str | None = None
    full: bool = False

    @property
    def language(self) -> Language:
        return spoken(self.locale)


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
    seen: Subject | None = None,
) -> AsyncGenerator[Reason | Explained, None]:
    """Yields a reason for each chosen item, in order, then the usage.

    The writer writes for the first `style.top`; templates replace what fails the check, and serve
    the rest. `seen`: the subject as models may see it, if they may not see all
    of `subject`; a model's words are checked against it.
    """
    call, language = call.part(), style.language
    seen = seen or subject
    sentences = Sentences(language)
    said = [
        told(candidate, subject.state, subject.grounds, language, subject.asked)
        for candidate in subject.chosen
    ]
    writing, failure = _writing(writer, seen, style, call), ""
    try:
        for n, one in enumerate(said):
            clause: Clause | None = None
            if isinstance(writing, Writing):
                try:
                    clause = await writing.of(n)
                except PromptError:
                    failure = failure or InvalidOutput.code
                except ModelError as error:
                    failure = failure or error.code
            reason = sentences.reason(one, n + 1, clause)
            short: dict[str, Any] = {} if style.full else {"attribution": {}, "facts": []}
            yield reason.model_copy(update=short)
    finally:
        if writing is not None:
            await writing.close()
    yield Explained(call.usage, _degraded(writer, failure) if writer and failure else None)


def sheets(subject: Subject, style: Style) -> dict[int, Sheet]:
    """What a model is told of each item that it may write on, by place from 0."""
    told_of: list[Sayable] = [
        told(candidate, subject.state, subject.grounds, style.language, ())
        for candidate in subject.chosen[: min(style.top, len(LETTERS))]
    ]
    found = {n: sheet_of(one, style.language) for n, one in enumerate(told_of)}
    return {n: sheet for n, sheet in found.items() if sheet is not None}


def _writing(
    writer: Writer | None, seen: Subject, style: Style, call: CallContext
) -> Writing | None:
    """Starts the model's work; None if no model may write."""
    if writer is None or style.prompt is None:
        return None
    task = Task(style.prompt, style.language, style.deadline, call)
    return Writing(writer, task, sheets(seen, style))


def _degraded(writer: Writer, reason: str) -> Degraded:
    return Degraded.model_validate(
        {"from": f"explain:{writer.llm.alias}", "to": "template", "reason": reason}
    )
