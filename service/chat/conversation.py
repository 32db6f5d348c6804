"""Answers a conversation: stores what the person said as events, ranks, and puts the ranking into
words.

Events are stored first, so that the ranking already uses them. Rankings and reasons come from
`Recommender.stream`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, cast

from service.catalog import Catalog
from service.chat import answers, picks, reading
from service.chat.understanding import Understanding
from service.config import Settings
from service.context import CallContext
from service.errors import BadRequest, check_limit
from service.ingest import Ingest
from service.pipeline import Answer, Recommender
from service.schema import (
    LONGEST_INSTRUCTION,
    ChatReply,
    ChatRequest,
    Document,
    Event,
    Filter,
    Item,
    Ranked,
    Ranking,
    Reason,
    RecommendRequest,
    RerankRequest,
    Usage,
)

EXPLAINED = 3
"""Most items that one answer explains or describes."""
PICKS = 5
"""How many items an answer recommends if the request doesn't say."""

TITLE_CHARS = 80
OWN = "\x1f"
"""First character of the id that a document without one gets. It is a control character, which no
item's id contains. No events are stored about such documents."""

Spoken = AsyncGenerator[str | ChatReply, None]
"""Yields the text in pieces, then the reply."""
OwnDocuments = Sequence[tuple[Document, Item]]
"""Pairs for the caller's documents: the document, with a title if `_titled` adds one, and the same
as an item with a title and an id."""


@dataclass(frozen=True)
class _Turn:
    """One turn to answer: the request, what was understood of it, our phrases in its language, who
    pays for model calls, and the caller's documents."""

    request: ChatRequest
    talk: reading.Talk
    words: answers.Words
    call: CallContext
    own: OwnDocuments


@dataclass(frozen=True, eq=False, repr=False)
class Conversation:
    settings: Settings
    catalog: Catalog
    recommender: Recommender
    understanding: Understanding
    ingest: Ingest
    clock: Callable[[], datetime]

    async def answer(self, request: ChatRequest, call: CallContext | None = None) -> Spoken:
        """Yields the text in pieces, then the reply; with a JSON schema (`shape`), a single piece
        of JSON. An invalid request raises here, before iteration begins."""
        call = call or CallContext()
        request = request.model_copy(update={"locale": await self._locale(request)})
        self._check(request, call)
        start = asyncio.get_running_loop().time()
        vocabulary = await self.understanding.wishes.vocabulary()
        own = await _own_documents(self.catalog, request)
        talk = reading.read(request.turns, await _called(self.catalog, request, own), vocabulary)
        if talk.many is not None:
            top_n = min(talk.many, request.top_n or self.settings.limits.top_n)
            request = request.model_copy(update={"top_n": top_n})
        views = await self.understanding.views(request, talk)
        part = call.part()
        kind = talk.kind or await self.understanding.kind(request, talk.turn, views, part)
        turn = _Turn(request, talk, answers.spoken(request.locale), call, own)
        if kind == "recommend":
            noted = await self._note(request, talk)
            left = await _without_excluded(self.catalog, request, talk, own)
            if left is None:
                answer = _say(
                    f"{answers.opening(talk, turn.words, noted)}\n\n{turn.words.nothing}",
                    kind,
                    noted,
                )
            else:
                spent_s = asyncio.get_running_loop().time() - start
                wanted = self._wanted(left, talk, spent_s)
                stream = await self._stream(left.documents, wanted, call)
                answer = self._picks(turn, noted, wanted, stream, part.usage)
        elif talk.about and kind in {"why", "about"}:
            answer = self._about(turn, kind)
        else:
            answer = _say(answers.answered(talk, kind, turn.words), kind)
        return answer if request.shape is None else self._shaped(request.shape, answer)

    def _check(self, request: ChatRequest, call: CallContext) -> None:
        """Raises `BadRequest` or `NotFound` for a request that can't be answered."""
        limits = self.settings.limits
        check_limit("messages", len(request.turns), limits.messages, "messages")
        most = limits.message_chars
        if any(len(turn.text) > most for turn in request.turns if turn.role == "user"):
            raise BadRequest(
                f"messages: each at most {most} characters (limits.message_chars)", param="messages"
            )
        check_limit("documents", len(request.documents or ()), limits.documents, "documents")
        if request.shape is not None:
            from service.chat.shape import check  # takes a tenth of a second, and few ask for it

            check(request.shape)
        self.catalog.check_filters(request.filters)
        asked = self._asked(request, None).model_copy(update={"candidates": request.candidates})
        self.recommender.check(asked, call)

    async def _locale(self, request: ChatRequest) -> str | None:
        """Returns the locale of the whole answer, its reasons too."""
        if request.locale is not None:
            return request.locale
        users = self.understanding.store.users
        user = await users.get(request.user_id) if request.user_id is not None else None
        turn = request.turns[-1].text[: reading.LONGEST_READ]
        return answers.locale_for(turn, user[0].locale if user is not None else None)

    async def _note(self, request: ChatRequest, talk: reading.Talk) -> list[Event]:
        """Stores what the last turn says about the person as events. Sending the same turn again
        adds none."""
        if not request.note or (request.user_id is None and request.session_id is None):
            return []
        turns = [turn.text for turn in request.turns]
        events = [
            Event(  # its id is the same for the same turn
                event_id=sha256(
                    json.dumps([turns, remark.kind, remark.about, remark.topic]).encode()
                ).hexdigest()[:32],
                user_id=request.user_id,
                session_id=request.session_id,
                type=remark.kind,
                item_id=remark.about,
                text=remark.topic or None,
                occurred_at=self.clock(),
            )
            for remark in talk.said
            if not (remark.about or "").startswith(OWN)
        ]
        if events:
            await self.ingest.events([event.model_dump() for event in events])
        return events

    # ── as a request for a list ───────────────────────────────────────────────────────────────────

    def _wanted(self, request: ChatRequest, talk: reading.Talk, spent_s: float) -> RecommendRequest:
        """Makes a recommendation request of the conversation."""
        update: dict[str, Any] = {"exclude": list(dict.fromkeys([*request.exclude, *talk.exclude]))}
        if request.candidates is not None:
            update["candidates"] = request.candidates
        else:
            filters = {**_compared(talk), **request.filters}
            update |= {"filters": filters, "avoid": [*talk.avoid]}
        instruction = (talk.instruction or "")[:LONGEST_INSTRUCTION]
        return self._asked(request, instruction, spent_s).model_copy(update=update)

    def _asked(
        self, request: ChatRequest, instruction: str | None, spent_s: float = 0
    ) -> RecommendRequest:
        """Returns a recommendation request with the fields that it shares with a chat request, and
        with the deadline less `spent_s` seconds."""
        shared = RecommendRequest.model_fields.keys() & ChatRequest.model_fields.keys()
        shared -= {"candidates", "filters", "exclude", "top_n", "deadline_ms"}
        deadline_ms = request.deadline_ms or self.settings.service.deadline_ms
        return RecommendRequest(
            **{name: getattr(request, name) for name in shared},
            top_n=request.top_n or PICKS,
            instruction=instruction or None,
            deadline_ms=max(deadline_ms - round(1000 * spent_s), 1),
        )

    async def _stream(
        self, documents: list[Document] | None, wanted: RecommendRequest, call: CallContext
    ) -> Answer:
        """Ranks the catalogue, or the caller's documents."""
        if documents is None:
            return await self.recommender.stream(wanted, call)
        shared = RerankRequest.model_fields.keys() & RecommendRequest.model_fields.keys()
        return await self.recommender.rerank_stream(
            RerankRequest(
                query=wanted.instruction or "",
                documents=documents,
                **{name: getattr(wanted, name) for name in shared},
            ),
            call,
        )

    # ── in words ──────────────────────────────────────────────────────────────────────────────────

    async def _picks(
        self,
        turn: _Turn,
        noted: list[Event],
        wanted: RecommendRequest,
        stream: Answer,
        usage: Usage,
    ) -> Spoken:
        """Yields an opening, then a line for each item as soon as its reason is known. Says so if
        no item meets all of the wish. `usage`: of the call which told the turn's kind."""
        words = turn.words
        text = answers.opening(turn.talk, words, noted)
        yield text
        ranking, stream, eased = await self._first(turn, wanted, stream)
        if eased:
            text += f"\n\n{words.dropped}"
            yield f"\n\n{words.dropped}"
        titles = [item.title or item.item_id for item in ranking.items]
        items = await self.catalog.get(item.item_id for item in ranking.items)
        gap = "\n\n"
        async with aclosing(stream):
            async for part in stream:
                ranking = part if isinstance(part, Ranking) else ranking
                rows: Sequence[Ranked | Reason] = (
                    [part]
                    if isinstance(part, Reason)
                    else [row for row in part.items if row.reason is None]
                )
                for row in rows:
                    title, item = titles[row.rank - 1], items.get(row.item_id)
                    piece = gap + picks.pick(row.rank, title, item, row.reason)
                    yield piece
                    text, gap = text + piece, "\n"
        if not ranking.items:
            yield f"\n\n{words.nothing}"
            text += f"\n\n{words.nothing}"
        yield ChatReply.model_construct(
            text=text, kind="recommend", ranking=ranking, noted=noted, usage=ranking.usage + usage
        )

    async def _first(
        self, turn: _Turn, wanted: RecommendRequest, stream: Answer
    ) -> tuple[Ranking, Answer, bool]:
        """The ranking, the rest of its stream, and whether not all that was asked for could be met.
        If nothing that meets the wish is less, or more, than all that was shown, it may be so than
        some of it; and at last that is not asked for any more."""
        given = turn.request.filters
        for filters in ({**_compared(turn.talk, all_=False), **given}, given):
            ranking = cast(Ranking, await anext(stream))
            eased = ranking.understood is not None and bool(ranking.understood.relaxed)
            if (ranking.items and not eased) or wanted.filters == given:
                return ranking, stream, eased
            await stream.aclose()
            wanted = wanted.model_copy(update={"filters": filters})
            stream = await self.recommender.stream(wanted, turn.call)
        return cast(Ranking, await anext(stream)), stream, True

    async def _about(self, turn: _Turn, kind: reading.Kind) -> Spoken:
        """Describes items shown before, or explains why they were recommended: ranks them anew to
        get their reasons."""
        text, usage, ranking = "", Usage(), None
        for item in turn.talk.about[:EXPLAINED]:
            if kind == "why":
                ranking = await self._again(turn, item)
                usage += ranking.usage
                moved_by = await self.catalog.get(ranking.items[0].attribution)
                said = answers.justified(item, ranking.items[0], moved_by, turn.words)
            else:
                said = answers.described(item, turn.words)
            piece = f"\n\n{said}" if text else said
            yield piece
            text += piece
        yield ChatReply.model_construct(
            text=text, kind=kind, ranking=ranking, noted=[], usage=usage
        )

    async def _again(self, turn: _Turn, item: Item) -> Ranking:
        """Ranks a single item, to get its reason and attribution."""
        own = [document for document, known in turn.own if known.id == item.id]
        alone = {"candidates": None if own else [item.id], "top_n": 1, "explain": "full"}
        asked = self._asked(turn.request, turn.talk.instruction).model_copy(update=alone)
        async with aclosing(await self._stream(own or None, asked, turn.call)) as stream:
            rankings = [part async for part in stream if isinstance(part, Ranking)]
        return rankings[-1]

    async def _shaped(self, shape: Mapping[str, Any], answer: Spoken) -> Spoken:
        """Converts an answer into JSON of the caller's schema, as a single piece."""
        from service.chat.shape import filled

        async with aclosing(answer):
            *_, reply = [part async for part in answer if isinstance(part, ChatReply)]
        items = reply.ranking.items if reply.ranking is not None else []
        known = await self.catalog.get(item.item_id for item in items)
        values = [_values(item, known.get(item.item_id)) for item in items]
        text = json.dumps(filled(shape, reply.text, values), ensure_ascii=False)
        yield text
        yield reply.model_copy(update={"text": text})


def _compared(talk: reading.Talk, *, all_: bool = True) -> dict[str, Filter]:
    """Filters for what shall be less, or more, than in every pick of the last answer, or (`all_`
    false) than in some."""
    filters = {}
    for key, way in talk.than.items():
        numbers = [
            value
            for value in (item.attributes.get(key) for item in talk.shown)
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        if numbers:
            low, high = (min(numbers), max(numbers)) if all_ else (max(numbers), min(numbers))
            bound = {"lt": low} if way == "less" else {"gt": high}
            filters[key] = Filter.model_validate(bound)
    return filters


async def _say(text: str, kind: reading.Kind, noted: Sequence[Event] = ()) -> Spoken:
    yield text
    yield ChatReply(text=text, kind=kind, noted=[*noted])


def _values(row: Ranked, item: Item | None) -> dict[str, Any]:
    """Values that a JSON answer may use for an item: its rank, reason and attributes."""
    own = item.model_dump(include={"url", "image_url", "text"}) if item is not None else {}
    attributes = item.attributes if item is not None else {}
    return {**attributes, **own, **row.model_dump(exclude={"signals", "attribution", "facts"})}


# ── the caller's own documents ────────────────────────────────────────────────────────────────


async def _own_documents(catalog: Catalog, request: ChatRequest) -> OwnDocuments:
    """The caller's documents, in their order."""
    documents = request.documents or []
    known = await catalog.get(one.id for one in documents if one.id is not None)
    own = []
    for n, document in enumerate(documents):
        item_id = document.id or f"{OWN}{n}"
        titled = _titled(document)
        item = titled.over(known.get(item_id))
        update = {"id": item_id, "title": item.title or document.text[:TITLE_CHARS]}
        own.append((titled, item.model_copy(update=update)))
    return own


async def _called(
    catalog: Catalog, request: ChatRequest, own: OwnDocuments
) -> dict[str, list[Item]]:
    """Items by the names that earlier answers may have used; the caller's documents by their
    titles and ids."""
    names = picks.names(request.turns)
    return await catalog.called(names) | {
        name: [item]
        for _, item in own
        for name in {picks.plain(picks.shown(item.title)), item.id} & names
    }


async def _without_excluded(
    catalog: Catalog, request: ChatRequest, talk: reading.Talk, own: OwnDocuments
) -> ChatRequest | None:
    """The request without the documents or candidates that the person excluded; None if none
    remain."""
    exclude = {*request.exclude, *talk.exclude}
    avoid = {value.casefold() for value in talk.avoid}
    if request.documents is not None:
        documents = [
            document
            for document, item in own
            if item.id not in exclude and not avoid & _texts(item)
        ]
        return request.model_copy(update={"documents": documents}) if documents else None
    if request.candidates is not None:
        known = await catalog.get(request.candidates) if avoid else {}
        exclude |= {item.id for item in known.values() if avoid & _texts(item)}
        ids = [item_id for item_id in request.candidates if item_id not in exclude]
        return request.model_copy(update={"candidates": ids}) if ids else None
    return request


def _titled(document: Document) -> Document:
    """Gives a document without title and id its first line as title."""
    if document.title or document.id is not None:
        return document
    first = document.text.strip().partition("\n")[0]
    return document.model_copy(update={"title": first[:TITLE_CHARS]})


def _texts(item: Item) -> set[str]:
    """An item's textual attribute values in lower case."""
    return {value.casefold() for _, value in item.facts() if isinstance(value, str)}
