"""Explains a ranking: chooses the model that writes the reasons, and what it sees."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from service.catalog import Catalog
from service.config import Settings
from service.explain import (
    Explained,
    Grounds,
    Kept,
    Style,
    Subject,
    Writer,
    explain,
    gather,
    spoken,
)
from service.explain.language import languages
from service.language import language_of, tells_language
from service.models import Models
from service.plan import Plan
from service.privacy import View, Views
from service.prompts import Prompt, PromptLibrary
from service.schema import FASTER, Candidate, Reason, UserState
from service.store import Store


class Explainer:
    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        catalog: Catalog,
        prompts: PromptLibrary,
        models: Models,
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._kept = Kept()
        self._prompts = prompts
        self._models = models

    async def explain(
        self, plan: Plan, person: UserState, chosen: Sequence[Candidate], views: Views
    ) -> AsyncGenerator[Reason | Explained, None]:
        """Yields a reason for each chosen candidate. Reasons are templates if no model is planned,
        if the caller asks for `FASTER`, or if the person may be shown to no model."""
        asks = plan.ladder.steps and plan.request.model != FASTER
        alias = self._writing_alias(views) if asks else None
        writer = None
        if alias is not None:
            writer = Writer(self._models.writers[alias], self._models.constraint(alias), self._kept)
        style = self.style(plan, person)
        grounds = await self.grounds(person, chosen)
        subject = Subject(person, chosen, [*plan.wish.named], grounds)
        outside = alias if alias is not None and views.of(alias).redaction is not None else None
        reasons = explain(
            subject,
            style,
            plan.context.call,
            writer=writer,
            seen=seen_through(views.of(outside), subject) if outside is not None else None,
        )
        async with aclosing(reasons):
            async for part in reasons:
                yield part

    async def grounds(self, person: UserState, chosen: Sequence[Candidate]) -> Grounds:
        """What reasons for the chosen items can be true by."""
        return await gather(self._store, self._catalog, chosen, person)

    def style(self, plan: Plan, person: UserState) -> Style:
        locale = plan.request.locale or person.locale or _said_in(plan.request.instruction or "")
        prompt = self._prompts.find("explain", plan.domain, locale)
        return Style(
            prompt if locale_of(prompt) == spoken(locale).code else None,
            top=self._settings.explain.top,
            deadline=plan.context.deadline,
            locale=locale,
            full=plan.request.explain == "full",
        )

    def _writing_alias(self, views: Views) -> str | None:
        """Returns the alias of the first model, among `roles.explain` and then the fallbacks, that
        may see the person and whose circuit breaker is closed. If all breakers are open, returns
        the first that may see the person; None if none may."""
        aliases = [
            alias
            for alias in (self._settings.roles.explain, *self._settings.fallback)
            if alias in self._models.writers and views.of(alias).allowed
        ]
        closed = (alias for alias in aliases if not self._models.writers[alias].resting)
        return next(closed, aliases[0] if aliases else None)


def _said_in(instruction: str) -> str | None:
    """The language of an instruction, if it says enough to tell, and reasons are written in it."""
    told = language_of(instruction) if tells_language(instruction) else ""
    return told if told in languages() else None


def locale_of(prompt: Prompt) -> str:
    """The language in which a prompt for reasons lets a model write: that of its file's name, else
    English."""
    return prompt.ref.id.partition(".")[2].split("-")[0].lower() or "en"


def seen_through(view: View, subject: Subject) -> Subject:
    """Returns the subject with only what the view's model may see."""
    state, chosen, _ = view.shown(subject.state, subject.chosen, None)
    return replace(subject, state=state, chosen=chosen)
