"""Shows what a model would be sent for a request, without calling it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from service.config import Settings
from service.context import CallContext
from service.embed import count_tokens
from service.errors import BadRequest, NotFound
from service.explain import Subject, sheets
from service.explainer import seen_through
from service.models import Models
from service.pipeline import Stages
from service.plan import Plan
from service.privacy import Views, count_redactions
from service.prompts import LETTERS, Asks, Message, Prompt, PromptLibrary, variables
from service.rank import slots
from service.rank.selection import SPECS
from service.records import Records
from service.schema import Candidate, PromptRef, RecommendRequest, UserState

PreviewTask = Literal["rank", "explain", "score"]
"""Tasks whose prompts can be previewed."""


@dataclass(frozen=True)
class Preview:
    """What a model would be sent.

    `tokens`: length of the messages by the model's tokenizer; None if that isn't on this machine.
    `leaves`: whether the model is outside the house. If so, `redacted` counts by kind what was
    removed, and `messages` is empty for a person whom the model may not see.
    """

    prompt: PromptRef
    messages: list[Message]
    tokens: int | None
    model: str
    leaves: bool = False
    redacted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Looked:
    """The input of a preview. `alias`: the model that would be called."""

    plan: Plan
    person: UserState
    prompt: Prompt
    alias: str
    views: Views

    def seen(self, chosen: Sequence[Candidate]) -> Subject:
        """Returns the person and candidates as the model may see them."""
        return seen_through(self.views.of(self.alias), Subject(self.person, chosen))


@dataclass(frozen=True, eq=False, repr=False)
class Previewer:
    settings: Settings
    stages: Stages
    models: Models
    library: PromptLibrary
    records: Records

    def prompts(self) -> list[Prompt]:
        return list(self.library.all().values())

    async def state(self, user_id: str) -> UserState:
        """Returns a user's state as a ranking would use it now. Raises `NotFound`."""
        await self.records.user(user_id)
        plan = self.stages.planner.plan(RecommendRequest(user_id=user_id), CallContext())
        return (await self.stages.people.read(plan))[0]

    async def preview(
        self, request: RecommendRequest, task: PreviewTask, model: str | None = None
    ) -> Preview:
        """Returns what a model would be sent for this request. `model`: an alias; None: that of the
        task.

        For the task `score` these are two texts: the history that titles are scored after, and the
        titles. Raises `BadRequest` if the model can't do the task, `PromptError` if the template
        fails.
        """
        alias = self._alias(task, request, model)
        if task != "explain":
            strategy = "likelihood" if task == "score" else request.strategy
            request = request.model_copy(update={"model": alias, "strategy": strategy})
        plan = self.stages.planner.plan(request, CallContext())
        person, views = await self.stages.people.read(plan)
        plan = plan.wishing(await self.stages.wishes.ruled(request))
        prompt = plan.context.prompt
        if task != "rank":
            locale = request.locale or (person.locale if task == "explain" else None)
            prompt = self.library.find(task, plan.domain, locale)
        outside = self.models.privacy.leaves(alias)
        if not views.of(alias).allowed:
            return Preview(prompt.ref, [], None, alias, outside)
        shown = {"score": self._scored, "rank": self._ranked, "explain": self._explained}[task]
        redact = self.models.privacy.outgoing(alias)
        messages: list[Message] = [
            {**message, "content": redact(message["content"])}
            for message in await shown(_Looked(plan, person, prompt, alias, views))
        ]
        tokenizer = self.settings.weights_path(alias) / "tokenizer.json"
        return Preview(
            prompt.ref,
            messages,
            tokens=await asyncio.to_thread(count_tokens, messages, tokenizer),
            model=alias,
            leaves=outside,
            redacted=count_redactions(message["content"] for message in messages),
        )

    def _alias(self, task: PreviewTask, request: RecommendRequest, model: str | None) -> str:
        """The model that does a task: `model`, else as configured. Raises `BadRequest` if there is
        none, or if it can't do the task."""
        models = self.settings.models
        alias = model or (
            self.settings.roles.explain
            if task == "explain"
            else self.stages.planner.alias(task, request)
        )
        if alias is None:
            raise BadRequest(
                f"roles.{task} names no model: none would be shown anything", param="model"
            )
        if alias not in models:
            raise NotFound("model", alias, param="model", known=", ".join(models))
        if task != "score" and models[alias].backend == "local":
            raise BadRequest(
                f"model {alias!r} tells likelihoods only: it is shown something for the task score",
                param="model",
            )
        return alias

    async def _scored(self, looked: _Looked) -> list[Message]:
        """The texts that `Likelihood` scores: the person's history, and the titles of the
        candidates that a model judges."""
        prompt, context = looked.prompt, looked.plan.context
        seen = looked.seen(await self._judged(looked))
        head, lines = prompt.document(seen.state, context.titles, context.line_tokens)
        titles = [prompt.line(candidate.item, context.line_tokens) for candidate in seen.chosen]
        return [
            {"role": "history", "content": head + "".join(lines.values())},
            {"role": "titles", "content": "\n".join(titles)},
        ]

    async def _found(self, looked: _Looked) -> list[Candidate]:
        plan = looked.plan
        return (await self.stages.finder.find(plan, looked.person, looked.views, plan.wish))[0]

    async def _judged(self, looked: _Looked) -> list[Candidate]:
        """The candidates that a model judges, in the order in which it sees them."""
        plan = looked.plan
        candidates = await self._found(looked)
        return [candidates[place] for place in slots(candidates, plan.context)]

    async def _ranked(self, looked: _Looked) -> list[Message]:
        """The ranking prompt. If a request would take several such prompts, the first."""
        plan, context = looked.plan, looked.plan.context
        judged = await self._judged(looked)
        step = next((step for step in plan.ladder.steps if SPECS[step.name].make is not None), None)
        windows = max(1, -(-len(judged) // context.window))
        window = judged[::windows] if step is None or step.in_letters else judged[:1]
        answer = SPECS[step.name].answer if step is not None else "order"
        if answer == "order" and not self.models.constraint(looked.alias).grammar:
            answer = "order as JSON"
        seen, view = looked.seen(window), looked.views.of(looked.alias)
        instruction = plan.request.instruction
        return looked.prompt.render(
            variables(
                seen.state,
                seen.chosen,
                asks=Asks(
                    view.words(instruction) if instruction is not None else None,
                    [*map(view.words, context.wanted)],
                    [*map(view.words, context.avoided)],
                ),
                locale=plan.request.locale or looked.person.locale,
                line_tokens=context.line_tokens,
                answer=answer,
            )
        )

    async def _explained(self, looked: _Looked) -> list[Message]:
        """The prompt for reasons. If a request would take several such prompts, the first."""
        plan = looked.plan
        candidates = await self._found(looked)
        style = self.stages.explainer.style(plan, looked.person)
        seen = looked.seen(candidates[: plan.request.top_n])
        grounds = await self.stages.explainer.grounds(seen.state, seen.chosen)
        told = [*sheets(replace(seen, grounds=grounds), style).values()]
        shown = told[:1] if self.models.constraint(looked.alias).grammar else told
        lines = [sheet.shown(letter) for letter, sheet in zip(LETTERS, shown, strict=False)]
        return looked.prompt.render({"candidates": lines})
