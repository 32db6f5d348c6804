"""How a conversation is answered: what was said is noted, then the flow of every ranking, told in
words.

Events first, so that the answer knows what the person just said; the ranking and its reasons are
those of `Recommender.stream`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from service import chat
from service.catalog import Catalog, Facets, Vectors
from service.chat.words import Words, plain, shown
from service.config import Settings
from service.errors import BadRequest, ModelError, ModelIncapable, NotFound, PromptError
from service.llm import LLM, Call
from service.prompts import PromptLibrary
from service.redact import Redaction, ids_in
from service.schema import (
    FASTER,
    LONGEST_INSTRUCTION,
    PRIOR,
    ChatReply,
    ChatRequest,
    Document,
    Event,
    IngestReport,
    Item,
    Ranked,
    Ranking,
    Reason,
    RecommendRequest,
    RerankRequest,
    Usage,
)
from service.store import Store

TOLD = 3
"""So many items are told about in one answer."""

TITLE = 80
"""Characters."""
OWN = "\x1f"
"""A control character, which no item's id holds: the id of a document that came without one begins
with it, and no event is about such a document."""
PICKS = 5
"""Unless somebody says how many."""
VALUES = 2
"""A wish means at most so many of the catalogue's values."""

Stream = AsyncGenerator[Ranking | Reason, None]
Answer = AsyncGenerator[str | ChatReply, None]


class Conversation:
    """`stream`, `ingest`, `refuse` (raises for a request that can't be answered): the recommender's
    own."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        catalog: Catalog,
        prompts: PromptLibrary,
        llms: Mapping[str, LLM],
        veil: Redaction,
        stream: Callable[[RecommendRequest], Awaitable[Stream]],
        rerank: Callable[[RerankRequest], Awaitable[Stream]],
        ingest: Callable[[Sequence[Any]], Awaitable[IngestReport]],
        refuse: Callable[[RecommendRequest], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._prompts = prompts
        self._llms = llms
        self._veil = veil
        self._stream = stream
        self._rerank = rerank
        self._ingest = ingest
        self._refuse = refuse
        self._clock = clock
        self._examples: dict[chat.Kind, Vectors] = {}

    async def answer(self, request: ChatRequest) -> Answer:
        """The text in pieces, then the reply; with a shape, one piece of JSON. Whatever is wrong
        with the request is raised here."""
        self._check(request)
        self._refuse(
            self._asked(request, None).model_copy(update={"candidates": request.candidates})
        )
        start = asyncio.get_running_loop().time()
        facets = await self._catalog.facets()
        talk = chat.read(request.turns, await self._called(request), facets)
        if talk.many is not None:
            most = request.top_n or self._settings.limits.top_n
            request = request.model_copy(update={"top_n": min(talk.many, most)})
        kind = talk.kind or await self._kind(request, talk.turn)
        words = chat.spoken(request.locale, talk.turn)
        if kind == "recommend":
            noted = await self._noted(request, talk)
            left = await self._left(request, talk)
            if left is None:
                told = _nothing(chat.opening(talk, words, noted), words, noted)
            else:
                values, usage = await self._values(left, talk, facets)
                wanted = self._wanted(left, talk, values, asyncio.get_running_loop().time() - start)
                told = self._picked(
                    left, talk, words, noted, wanted, await self._parts(left, wanted), usage
                )
        elif kind in {"why", "about"}:
            told = self._told(request, talk, kind, words)
        else:
            told = _said(chat.answered(talk, kind, words), kind)
        return told if request.shape is None else self._shaped(request.shape, told)

    def _check(self, request: ChatRequest) -> None:
        limits, most = self._settings.limits, self._settings.limits.message_chars
        if len(request.turns) > limits.messages:
            raise BadRequest(
                f"messages: at most {limits.messages} (limits.messages)", param="messages"
            )
        if any(len(turn.text) > most for turn in request.turns if turn.role == "user"):
            raise BadRequest(
                f"messages: each at most {most} characters (limits.message_chars)", param="messages"
            )
        if len(request.documents or ()) > limits.documents:
            raise BadRequest(
                f"documents: at most {limits.documents} (limits.documents)", param="documents"
            )
        if request.shape is not None:
            from service.chat.shape import (
                check,
            )  # a tenth of a second, for the few who ask for a shape

            check(request.shape)
        self._catalog.check_filters(request.filters)

    async def _called(self, request: ChatRequest) -> dict[str, list[Item]]:
        """What earlier answers may have called items by; of the caller's own documents by what they
        are shown as."""
        names = chat.names(request.turns)
        found = await self._catalog.called(names)
        for item in await self._own(request):
            found |= {name: [item] for name in {plain(shown(item.title)), item.id} & names}
        return found

    async def _own(self, request: ChatRequest) -> list[Item]:
        """The caller's documents as items that are called what they are shown as, each with an
        id."""
        documents = request.documents or []
        known = await self._catalog.get(one.name for one in documents if one.name is not None)
        items = [_titled(one, known).over(known.get(one.name or "")) for one in documents]
        return [
            item.model_copy(
                update={"id": one.name or f"{OWN}{n}", "title": item.title or one.text[:TITLE]}
            )
            for n, (one, item) in enumerate(zip(documents, items, strict=True))
        ]

    async def _left(self, request: ChatRequest, talk: chat.Talk) -> ChatRequest | None:
        """Of a list that the caller gives what the person has not excluded; None if that is
        nothing."""
        exclude, avoid = (
            {*request.exclude, *talk.exclude},
            {value.casefold() for value in talk.avoid},
        )
        if request.documents is not None:
            items = zip(request.documents, await self._own(request), strict=True)
            stay = [
                one for one, item in items if item.id not in exclude and not avoid & _words_of(item)
            ]
            return request.model_copy(update={"documents": stay}) if stay else None
        if request.candidates is not None:
            known = await self._catalog.get(request.candidates) if avoid else {}
            refused = exclude | {item.id for item in known.values() if avoid & _words_of(item)}
            left = [one for one in request.candidates if one not in refused]
            return request.model_copy(update={"candidates": left}) if left else None
        return request

    async def _kind(self, request: ChatRequest, turn: str) -> chat.Kind:
        """By likeness to examples, which the embedder knows in English: words in another script are
        a wish, and so are those that an embedder outside may not see."""
        outside = self._settings.embed.leaves_the_house
        if sum(map(str.isascii, turn)) < len(turn) / 2 or not await self._allowed(
            request, outside=outside
        ):
            return "recommend"
        turn = (await self._over(request, turn)).sent(turn) if outside else turn
        with suppress(ModelError):  # the embedder's
            if not self._examples:
                self._examples = {
                    kind: await self._catalog.embedder.embed(said)
                    for kind, said in chat.EXAMPLES.items()
                }
            return chat.kind_of(await self._catalog.embedder.embed_one(turn), self._examples)
        return "recommend"

    async def _noted(self, request: ChatRequest, talk: chat.Talk) -> list[Event]:
        """Events of what the last turn tells of the person; the same turn sent again makes no new
        ones."""
        if not request.note or (request.user_id is None and request.session_id is None):
            return []
        turns = [turn.text for turn in request.turns]
        told = [said for said in talk.said if said.about is None or not said.about.startswith(OWN)]
        events = [
            Event(
                event_id=sha256(
                    json.dumps([turns, said.kind, said.about, said.topic]).encode()
                ).hexdigest()[:32],
                user_id=request.user_id,
                session_id=request.session_id,
                type=said.kind,
                item_id=said.about,
                text=said.topic or None,
                occurred_at=self._clock(),
            )
            for said in told
        ]
        if events:
            await self._ingest([event.model_dump() for event in events])
        return events

    async def _values(
        self, request: ChatRequest, talk: chat.Talk, facets: Facets
    ) -> tuple[list[str], Usage]:
        """What the latest wish means in the catalogue's own values, by a model where no rule tells;
        none if it fails. It has a quarter of the time."""
        alias, wish = self._settings.roles.chat or self._settings.roles.explain, talk.wishes[-1:]
        if alias is None or alias not in self._llms:
            return [], Usage()
        outside = self._settings.models[alias].leaves_the_house
        if outside:
            wish, facets = (
                [(await self._over(request, one)).words(one) for one in wish],
                Facets(self._veil.facets(facets.values)),
            )
        known = chat.choosable(facets)
        mute = request.model in {FASTER, PRIOR} or request.strategy == "prior"
        if (
            mute
            or not wish
            or talk.filters
            or not known
            or not await self._allowed(request, outside=outside)
        ):
            return [], Usage()
        domain = request.domain or self._settings.service.domain
        seconds = (request.deadline_ms or self._settings.service.deadline_ms) / 1000
        text, usage = "", Usage()
        llm = self._llms[alias]
        try:
            prompt = self._prompts.find("chat", domain, request.locale)
            said = prompt.render(
                {"instruction": wish[0][:LONGEST_INSTRUCTION], "values": ", ".join(known)}
            )
            call = Call(
                said,
                max_tokens=24,
                grammar=chat.choice(facets),
                temperature=prompt.sampling.temperature,
            )
            async with asyncio.timeout(seconds / 4):
                try:
                    text, usage = await _heard(llm, call)
                except (
                    ModelIncapable
                ):  # no grammars: it may say anything, and what is no value is dropped
                    text, usage = await _heard(llm, replace(call, grammar=None))
        except (ModelError, NotFound, PromptError, TimeoutError):
            return [], usage
        named = {value.casefold(): value for value in known}
        words = dict.fromkeys(part.strip(" .\n").casefold() for part in re.split("[,、,]", text))
        return [named[word] for word in words if word in named][:VALUES], usage

    async def _allowed(self, request: ChatRequest, *, outside: bool) -> bool:
        """May a model be told what the person says, if it is outside?"""
        user = (
            await self._store.users.get(request.user_id)
            if outside and request.user_id is not None
            else None
        )
        return user is None or user[0].allow_hosted

    async def _over(self, request: ChatRequest, said: str) -> Redaction:
        return self._veil.of(
            request.redact,
            [request.user_id, request.session_id, *await ids_in(self._catalog, [said])],
        )

    async def _parts(self, request: ChatRequest, wanted: RecommendRequest) -> Stream:
        """Of the catalogue, or of the caller's documents."""
        if request.documents is None:
            return await self._stream(wanted)
        known = await self._catalog.get(
            one.name for one in request.documents if one.name is not None
        )
        names = RerankRequest.model_fields.keys() & RecommendRequest.model_fields.keys()
        return await self._rerank(
            RerankRequest(
                query=wanted.instruction or "",
                documents=[_titled(one, known) for one in request.documents],
                **{name: getattr(wanted, name) for name in names},
            )
        )

    def _wanted(
        self, request: ChatRequest, talk: chat.Talk, values: Sequence[str], spent_s: float
    ) -> RecommendRequest:
        """The conversation as a request for a list."""
        exclude = list(dict.fromkeys([*request.exclude, *talk.exclude]))
        instruction = ". ".join(part for part in (talk.instruction, ", ".join(values)) if part)[
            :LONGEST_INSTRUCTION
        ]
        asked = self._asked(request, instruction, spent_s)
        if request.candidates is None:
            filters = {**talk.filters, **request.filters}
            return asked.model_copy(
                update={"filters": filters, "exclude": exclude, "avoid": [*talk.avoid]}
            )
        return asked.model_copy(update={"candidates": request.candidates, "exclude": exclude})

    def _asked(
        self, request: ChatRequest, instruction: str | None, spent_s: float = 0
    ) -> RecommendRequest:
        names = RecommendRequest.model_fields.keys() & ChatRequest.model_fields.keys() - {
            "candidates",
            "filters",
            "exclude",
        }
        left = (request.deadline_ms or self._settings.service.deadline_ms) - round(1000 * spent_s)
        same = {name: getattr(request, name) for name in names} | {"top_n": request.top_n or PICKS}
        return RecommendRequest(
            **{**same, "instruction": instruction or None, "deadline_ms": max(left, 1)}
        )

    async def _picked(
        self,
        request: ChatRequest,
        talk: chat.Talk,
        words: Words,
        noted: list[Event],
        wanted: RecommendRequest,
        parts: Stream,
        usage: Usage,
    ) -> Answer:
        """An opening, and a line for each pick as soon as its reason is there. Where nothing is all
        that was demanded, what comes close to it, and it says so."""
        text = chat.opening(talk, words, noted)
        yield text
        ranking = await anext(parts)
        assert isinstance(ranking, Ranking)
        if not ranking.items and talk.filters:
            await parts.aclose()
            text += f"\n\n{words.dropped}"
            yield f"\n\n{words.dropped}"
            parts = await self._stream(wanted.model_copy(update={"filters": request.filters}))
            ranking = await anext(parts)
        assert isinstance(ranking, Ranking)
        titles = [item.title or item.item_id for item in ranking.items]
        items = await self._catalog.get(item.item_id for item in ranking.items)
        gap = "\n\n"
        async with aclosing(parts):
            async for part in _lines(parts):
                if isinstance(part, Ranking):
                    ranking = part
                    continue
                piece = gap + chat.pick(
                    part.rank, titles[part.rank - 1], items.get(part.item_id), part.reason
                )
                yield piece
                text, gap = text + piece, "\n"
        if not ranking.items:
            yield f"\n\n{words.nothing}"
            text += f"\n\n{words.nothing}"
        yield ChatReply.model_construct(
            text=text, kind="recommend", ranking=ranking, noted=noted, usage=ranking.usage + usage
        )

    async def _told(
        self, request: ChatRequest, talk: chat.Talk, kind: chat.Kind, words: Words
    ) -> Answer:
        """About picks that were shown: what is known of them, and why they were picked, anew from
        what is known now."""
        if not talk.about:
            yield words.which
            yield ChatReply(text=words.which, kind=kind)
            return
        text, usage, ranking = "", Usage(), None
        for item in talk.about[:TOLD]:
            piece = "\n\n" if text else ""
            if kind == "why":
                ranking = await self._anew(request, talk, item)
                usage += ranking.usage
                moved = await self._catalog.get(ranking.items[0].attribution)
                piece += chat.justified(item, ranking.items[0], moved, words)
            else:
                piece += chat.described(item, words)
            yield piece
            text += piece
        yield ChatReply.model_construct(
            text=text, kind=kind, ranking=ranking, noted=[], usage=usage
        )

    async def _anew(self, request: ChatRequest, talk: chat.Talk, item: Item) -> Ranking:
        """One item's ranking, for its reason and what moved it."""
        items = zip(request.documents or (), await self._own(request), strict=True)
        own = [one for one, known in items if known.id == item.id]
        alone = {"candidates": None if own else [item.id], "top_n": 1, "explain": "full"}
        asked = self._asked(request, talk.instruction).model_copy(update=alone)
        only = request.model_copy(update={"documents": own or None})
        async with aclosing(await self._parts(only, asked)) as parts:
            rankings = [part async for part in parts if isinstance(part, Ranking)]
        return rankings[-1]

    async def _shaped(self, shape: Mapping[str, Any], told: Answer) -> Answer:
        """The same answer as JSON in the caller's shape: one piece."""
        from service.chat.shape import filled

        async with aclosing(told):
            async for part in told:
                if isinstance(part, ChatReply):
                    reply = part
        items = reply.ranking.items if reply.ranking is not None else []
        known = await self._catalog.get(item.item_id for item in items)
        picks = [
            _pick(row.model_dump(exclude={"signals", "attribution"}), known.get(row.item_id))
            for row in items
        ]
        text = json.dumps(filled(shape, reply.text, picks), ensure_ascii=False)
        yield text
        yield reply.model_copy(update={"text": text})


async def _heard(llm: LLM, call: Call) -> tuple[str, Usage]:
    text, usage = "", Usage()
    async with aclosing(llm.stream(call)) as pieces:
        async for piece in pieces:
            text, usage = text + piece.text, piece.usage or usage
    return text, usage


async def _lines(parts: Stream) -> AsyncGenerator[Ranking | Reason | Ranked, None]:
    """A reason for each pick, then those picks that got none, then the whole."""
    async for part in parts:
        if isinstance(part, Ranking):
            for row in part.items:
                if row.reason is None:
                    yield row
        yield part


def _titled(document: Document, known: Mapping[str, Item]) -> Document:
    """A document that nobody gave a name is called as it begins."""
    if document.title or document.id is not None or document.name in known:
        return document
    return document.model_copy(update={"title": document.text.strip().partition("\n")[0][:TITLE]})


def _words_of(item: Item) -> set[str]:
    """Its attributes' values, folded."""
    return {part.casefold() for _, part in item.facts() if isinstance(part, str)}


async def _nothing(opening: str, words: Words, noted: list[Event]) -> Answer:
    text = f"{opening}\n\n{words.nothing}"
    yield text
    yield ChatReply.model_construct(
        text=text, kind="recommend", ranking=None, noted=noted, usage=Usage()
    )


async def _said(text: str, kind: chat.Kind) -> Answer:
    yield text
    yield ChatReply(text=text, kind=kind)


def _pick(row: Mapping[str, Any], item: Item | None) -> dict[str, Any]:
    """What a shape may tell of a pick: the ranking's row and the item's attributes."""
    more = (
        {**item.attributes, "url": item.url, "image_url": item.image_url, "text": item.text}
        if item is not None
        else {}
    )
    return {**more, **row}
