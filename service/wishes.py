"""Reads the wishes of requests: by rules at once, and by a model where the rules don't account for
every word."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from service.catalog import Catalog, Facets
from service.config import Settings
from service.context import CallContext
from service.errors import ModelError, ModelIncapable, NotFound, PromptError
from service.llm import LLM, Call
from service.llm.asking import ask
from service.models import Models
from service.plan import Plan
from service.privacy import View, Views
from service.prompts import Prompt, PromptLibrary
from service.schema import (
    FASTER,
    NO_WISH,
    PRIOR,
    PersonalRequest,
    RecommendRequest,
    Understood,
    Wish,
)
from service.wish import (
    ANSWERS,
    Vocabulary,
    answered,
    choosable,
    corrected,
    doubt,
    joined,
    known,
    possible,
    question,
    read,
    refutes,
    turned,
)

SHARE = 0.3
"""The largest share of the time until the deadline that a model may take to read a wish."""
KEPT = 5_000
"""How many answers of models are remembered."""
COUNTED_ANEW = 5_000
"""A catalogue of no more items has its facets counted at the first wish after each change; those of
a larger one are as they were counted last, in the background."""
DOUBTED = 3
"""Most named values of a text that a model is asked about."""

Got = TypeVar("Got")
Answer = tuple[str, list[str], list[str]]
"""What a model read: the kind of thing that is said, the wanted and the avoided values."""


@dataclass(frozen=True, eq=False)
class Asking:
    """Who may be asked what a text means. `alias`: None if no model is."""

    alias: str | None
    view: View
    locale: str | None
    domain: str
    until: float
    call: CallContext


@dataclass(eq=False, repr=False)
class WishReader:
    settings: Settings
    catalog: Catalog
    prompts: PromptLibrary
    models: Models
    _vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(Facets({})))
    _answers: OrderedDict[tuple[str, ...], object] = field(default_factory=OrderedDict)

    async def by_rules(self, text: str, given: Understood | None = None) -> Wish:
        """What the rules read in a text, or what the request itself says it means (`given`)."""
        vocabulary = await self.vocabulary()
        places = possible(text)
        ids = await self.catalog.titled(places.values()) if places else {}
        wish = read(text, vocabulary, known(places, ids))
        return wish if given is None else corrected(wish, given, vocabulary)

    async def ruled(self, request: RecommendRequest) -> Wish:
        """What a request asks for in words, as far as rules can tell, or as the request itself
        says. Raises `BadRequest` for a reading of its own that can't be filtered by."""
        text, given = request.instruction or "", request.understood
        if given is not None:
            self.catalog.check_filters({**given.filters, **given.soft})
        return await self.by_rules(text, given) if text or given is not None else NO_WISH

    async def start(self, plan: Plan, views: Views) -> Wish | Awaitable[Wish]:
        """Reads the wish of a request: at once if the rules leave nothing open, or if no model may
        be asked. Raises what `ruled` raises."""
        request = plan.request
        wish = await self.ruled(request)
        asking = self.asking_of(request, views, plan.context.call, plan.context.deadline)
        unsure = ((wish.rest or wish.wordy) and _doubtful(wish)) or (wish.rest and _vague(wish))
        leaves_open = unsure and wish.source != "request"
        if not leaves_open or asking.alias is None or not asking.view.allowed:
            return wish
        return self.read(wish, request.instruction or "", asking)

    async def read(self, wish: Wish, text: str, asking: Asking) -> Wish:
        """What a text means: what the rules read, and what a model says of the words that they
        don't account for, if it answers in time. It is asked what the words mean if the rules read
        nothing, or refused something without a name; else whether what they took for wanted is."""
        vocabulary = await self.vocabulary()
        if _vague(wish):
            answer = await self.asked(text, asking)
            if answer is None:
                return wish
            _, wanted, avoided = answer
            return joined(wish, wanted, avoided if wish.avoided else (), vocabulary)
        refused = await self._refuted(text, _doubtful(wish), asking)
        return turned(wish, refused, vocabulary) if refused else wish

    async def asked(self, text: str, asking: Asking) -> Answer | None:
        """What a model reads in a text; None if none may be asked, or if it fails or is late."""
        alias = asking.alias
        if alias is None or not asking.view.allowed:
            return None
        vocabulary = await self.vocabulary()
        values = choosable(asking.view.facets(vocabulary.facets.values))
        if not values:
            return None
        seen = asking.view.words(text)

        async def ask_all(prompt: Prompt) -> Answer:
            call = question(
                prompt,
                seen,
                values,
                constrained=self.models.constraint(alias).grammar,
                call=asking.call,
            )
            return answered(await _ask(self.models.writers[alias], call), values)

        return await self._kept(asking, (seen,), ask_all)

    async def _refuted(self, text: str, values: Sequence[str], asking: Asking) -> list[str]:
        """Those of the values that a text names which a model is sure that it does not want."""
        seen = asking.view.words(text)
        facets = asking.view.facets((await self.vocabulary()).facets.values)
        shown = {value for listed in facets.values() for value in listed}
        asked = [value for value in values if value in shown]

        async def refuted(value: str) -> bool:
            async def ask_one(prompt: Prompt) -> bool:
                llm = self.models.writers[asking.alias or ""]
                ids = tuple([await llm.token(word) for word in ANSWERS])
                return refutes((await ask(llm, doubt(prompt, seen, value, ids, asking.call))).logs)

            return bool(await self._kept(asking, (seen, value), ask_one))

        found = await asyncio.gather(*map(refuted, asked))
        return [value for value, is_refuted in zip(asked, found, strict=True) if is_refuted]

    async def _kept(
        self, asking: Asking, what: tuple[str, ...], ask_model: Callable[[Prompt], Awaitable[Got]]
    ) -> Got | None:
        """What a model answered before, or answers now; None if it fails or is late."""
        try:
            prompt = self.prompts.find("wish", asking.domain, asking.locale)
            key = (asking.alias or "", prompt.ref.sha, *what)
            if key not in self._answers:
                async with asyncio.timeout_at(asking.until):
                    self._answers[key] = await ask_model(prompt)
                while len(self._answers) > KEPT:
                    self._answers.popitem(last=False)
        except (ModelError, NotFound, PromptError, TimeoutError):
            return None
        self._answers.move_to_end(key)
        return cast(Got, self._answers[key])

    def asking_of(
        self,
        request: PersonalRequest,
        views: Views,
        call: CallContext,
        deadline: float | None = None,
    ) -> Asking:
        """Who may be asked about a request's words: the model for chats. It may take `SHARE` of the
        time until the `deadline` of the request (time of the event loop); by default that begins
        now."""
        settings, now = self.settings, asyncio.get_running_loop().time()
        alias = settings.roles.chat or settings.roles.explain
        asks_none = request.model in {FASTER, PRIOR} or request.strategy == "prior"
        if asks_none or alias not in self.models.writers:
            alias = None
        left = (request.deadline_ms or settings.service.deadline_ms) / 1000
        if deadline is not None:
            left = deadline - now
        return Asking(
            alias,
            views.of(alias) if alias is not None else View(allowed=False),
            request.locale,
            request.domain or settings.service.domain,
            now + SHARE * left,
            call,
        )

    async def vocabulary(self) -> Vocabulary:
        """The names of what the catalogue has now."""
        facets = await self.catalog.facets_lately()
        if facets.total <= COUNTED_ANEW:
            facets = await self.catalog.facets()
        if facets is not self._vocabulary.facets:
            self._vocabulary = await asyncio.to_thread(Vocabulary, facets)
            self._answers.clear()
        return self._vocabulary


def _doubtful(wish: Wish) -> list[str]:
    """Values that the rules took for wanted because the text names them, where they found nothing
    refused: who has understood one "no" has understood the sentence."""
    if wish.avoided:
        return []
    hard = {
        value
        for one in wish.filters.values()
        for value in [*(one.any or ()), *(one.all or ())]
        if isinstance(value, str)
    }
    return [value for value in wish.named if value in hard][:DOUBTED]


def _vague(wish: Wish) -> bool:
    """Whether the rules read nothing that acts, or refused something that has no name."""
    return bool(wish.nameless) or not (wish.filters or wish.soft or wish.like)


async def _ask(llm: LLM, call: Call) -> str:
    """Returns the model's whole answer. A model that refuses the grammar is asked without it; words
    that are no values are passed over later."""
    try:
        return (await ask(llm, call)).text
    except ModelIncapable:
        return (await ask(llm, replace(call, grammar=None))).text
