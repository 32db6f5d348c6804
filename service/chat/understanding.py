"""Understands a turn where rules don't suffice: its kind by the nearest example, and the
catalogue's values that a wish means by asking a model."""

import asyncio
import re
from contextlib import aclosing, suppress
from dataclasses import replace

from service.catalog import Catalog, Facets, Vectors
from service.chat.kinds import EXAMPLES, Kind, kind_of
from service.chat.reading import Talk
from service.chat.wishes import choice, choosable
from service.config import Settings
from service.context import CallContext
from service.errors import ModelError, ModelIncapable, NotFound, PromptError
from service.llm import LLM, Call
from service.models import Models
from service.privacy import Views, possible_ids
from service.prompts import PromptLibrary
from service.schema import FASTER, LONGEST_INSTRUCTION, PRIOR, ChatRequest
from service.store import Store

VALUES = 2
"""Most values of the catalogue that one wish may stand for."""


class Understanding:
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
        self._prompts = prompts
        self._models = models
        self._privacy = models.privacy
        self._examples: dict[Kind, Vectors] = {}

    async def views(self, request: ChatRequest, talk: Talk) -> Views:
        """Returns what each model may see of a conversation."""
        if not self._privacy.outside:
            return self._privacy.views(allowed=True)
        user = None
        if request.user_id is not None:
            user = await self._store.users.get(request.user_id)
        known = await self._catalog.get(possible_ids([talk.turn, *talk.wishes[-1:]]))
        return self._privacy.views(
            allowed=user is None or user[0].allow_hosted,
            names=request.redact,
            ids=[request.user_id, request.session_id, *known],
        )

    async def kind(self, turn: str, views: Views) -> Kind:
        """Classifies a turn by its nearest examples, which are in English. A turn in another script
        is taken for a wish, and so is one that an embedder outside may not see."""
        view = views.embedder
        if sum(map(str.isascii, turn)) < len(turn) / 2 or not view.allowed:
            return "recommend"
        with suppress(ModelError):  # the embedder's
            if not self._examples:
                self._examples = {
                    kind: await self._catalog.embedder.embed(texts)
                    for kind, texts in EXAMPLES.items()
                }
            vector = await self._catalog.embedder.embed_one(view.sent(turn))
            return kind_of(vector, self._examples)
        return "recommend"

    async def values(
        self, request: ChatRequest, talk: Talk, facets: Facets, views: Views, call: CallContext
    ) -> list[str]:
        """Asks a model which of the catalogue's values the latest wish means. Empty if rules found
        filters, or if the model fails or takes more than a quarter of the deadline."""
        alias = self._settings.roles.chat or self._settings.roles.explain
        no_model = request.model in {FASTER, PRIOR} or request.strategy == "prior"
        if no_model or talk.filters or not talk.wishes or alias not in self._models.writers:
            return []
        view = views.of(alias)
        if not view.allowed:
            return []
        facets = Facets(view.facets(facets.values))
        known = choosable(facets)
        if not known:
            return []
        wish = view.words(talk.wishes[-1])[:LONGEST_INSTRUCTION]
        text = ""
        try:
            question = self._question(request, wish, known, call)
            question = replace(question, grammar=choice(facets))
            seconds = (request.deadline_ms or self._settings.service.deadline_ms) / 1000
            async with asyncio.timeout(seconds / 4):
                text = await _ask(self._models.writers[alias], question)
        except (ModelError, NotFound, PromptError, TimeoutError):
            return []
        spelled = {value.casefold(): value for value in known}
        words = dict.fromkeys(part.strip(" .\n").casefold() for part in re.split("[,、,]", text))
        return [spelled[word] for word in words if word in spelled][:VALUES]

    def _question(
        self, request: ChatRequest, wish: str, known: list[str], call: CallContext
    ) -> Call:
        domain = request.domain or self._settings.service.domain
        prompt = self._prompts.find("chat", domain, request.locale)
        messages = prompt.render({"instruction": wish, "values": ", ".join(known)})
        temperature = prompt.sampling.temperature
        return Call(messages, max_tokens=24, temperature=temperature, context=call)


async def _ask(llm: LLM, call: Call) -> str:
    """Returns the model's whole answer. A model that refuses the grammar is asked without it; the
    caller drops words that are no values."""
    try:
        return await _answer(llm, call)
    except ModelIncapable:
        return await _answer(llm, replace(call, grammar=None))


async def _answer(llm: LLM, call: Call) -> str:
    text = ""
    async with aclosing(llm.stream(call)) as pieces:
        async for piece in pieces:
            text += piece.text
    return text
