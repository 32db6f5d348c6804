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

from service import chat
from service.catalog import Catalog
from service.chat.documents import OWN, OwnDocuments, called, own_documents, without_excluded
from service.chat.understanding import Understanding
from service.config import Settings
from service.context import CallContext
from service.errors import BadRequest
from service.ingest import Ingest
from service.pipeline import Answer as Stream
from service.pipeline import Recommender
from service.schema import (
    LONGEST_INSTRUCTION,
    ChatReply,
    ChatRequest,
    Document,
    Event,
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

Answer = AsyncGenerator[str | ChatReply, None]
"""Yields the text in pieces, then the reply."""


@dataclass(frozen=True)
class _Turn:
    """One turn to answer: the request, what was understood of it, our phrases in its language, who
    pays for model calls, and the caller's documents."""

    request: ChatRequest
    talk: chat.Talk
    words: chat.Words
    call: CallContext
    own: OwnDocuments


class Conversation:
    def __init__(
        self,
        settings: Settings,
        *,
        catalog: Catalog,
        recommender: Recommender,
        understanding: Understanding,
        ingest: Ingest,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._recommender = recommender
        self._understanding = understanding
        self._ingest = ingest
        self._clock = clock

    async def answer(self, request: ChatRequest, call: CallContext | None = None) -> Answer:
        """Yields the text in pieces, then the reply; with a JSON schema (`shape`), a single piece
        of JSON. An invalid request raises here, before iteration begins."""
        call = call or CallContext()
        self._check(request, call)
        start = asyncio.get_running_loop().time()
        facets = await self._catalog.facets()
        own = await own_documents(self._catalog, request)
        talk = chat.read(request.turns, await called(self._catalog, request, own), facets)
        if talk.many is not None:
            top_n = min(talk.many, request.top_n or self._settings.limits.top_n)
            request = request.model_copy(update={"top_n": top_n})
        views = await self._understanding.views(request, talk)
        kind = talk.kind or await self._understanding.kind(talk.turn, views)
        turn = _Turn(request, talk, chat.spoken(request.locale, talk.turn), call, own)
        if kind == "recommend":
            noted = await self._note(request, talk)
            left = await without_excluded(self._catalog, request, talk, own)
            if left is None:
                opening = chat.opening(talk, turn.words, noted)
                answer = _say(f"{opening}\n\n{turn.words.nothing}", kind, noted)
            else:
                part = call.part()
                values = await self._understanding.values(left, talk, facets, views, part)
                spent_s = asyncio.get_running_loop().time() - start
                wanted = self._wanted(left, talk, values, spent_s)
                stream = await self._stream(left.documents, wanted, call)
                answer = self._picks(turn, noted, wanted, stream, part.usage)
        elif talk.about and kind in {"why", "about"}:
            answer = self._about(turn, kind)
        else:
            answer = _say(chat.answered(talk, kind, turn.words), kind)
        return answer if request.shape is None else self._shaped(request.shape, answer)

    def _check(self, request: ChatRequest, call: CallContext) -> None:
        """Raises `BadRequest` or `NotFound` for a request that can't be answered."""
        limits = self._settings.limits
        if len(request.turns) > limits.messages:
            raise BadRequest(
                f"messages: at most {limits.messages} (limits.messages)", param="messages"
            )
        most = limits.message_chars
        if any(len(turn.text) > most for turn in request.turns if turn.role == "user"):
            raise BadRequest(
                f"messages: each at most {most} characters (limits.message_chars)", param="messages"
            )
        if len(request.documents or ()) > limits.documents:
            raise BadRequest(
                f"documents: at most {limits.documents} (limits.documents)", param="documents"
            )
        if request.shape is not None:
            from service.chat.shape import check  # takes a tenth of a second, and few ask for it

            check(request.shape)
        self._catalog.check_filters(request.filters)
        asked = self._asked(request, None).model_copy(update={"candidates": request.candidates})
        self._recommender.check(asked, call)

    async def _note(self, request: ChatRequest, talk: chat.Talk) -> list[Event]:
        """Stores what the last turn says about the person as events. Sending the same turn again
        adds none."""
        if not request.note or (request.user_id is None and request.session_id is None):
            return []
        turns = [turn.text for turn in request.turns]
        events = [
            Event(
                event_id=_digest([turns, remark.kind, remark.about, remark.topic]),
                user_id=request.user_id,
                session_id=request.session_id,
                type=remark.kind,
                item_id=remark.about,
                text=remark.topic or None,
                occurred_at=self._clock(),
            )
            for remark in talk.said
            if not (remark.about or "").startswith(OWN)
        ]
        if events:
            await self._ingest.events([event.model_dump() for event in events])
        return events

    # ── as a request for a list ───────────────────────────────────────────────────────────────────

    def _wanted(
        self, request: ChatRequest, talk: chat.Talk, values: list[str], spent_s: float
    ) -> RecommendRequest:
        """Makes a recommendation request of the conversation."""
        wishes = [wish for wish in (talk.instruction, ", ".join(values)) if wish]
        update: dict[str, Any] = {"exclude": list(dict.fromkeys([*request.exclude, *talk.exclude]))}
        if request.candidates is not None:
            update["candidates"] = request.candidates
        else:
            update |= {"filters": {**talk.filters, **request.filters}, "avoid": [*talk.avoid]}
        instruction = ". ".join(wishes)[:LONGEST_INSTRUCTION]
        return self._asked(request, instruction, spent_s).model_copy(update=update)

    def _asked(
        self, request: ChatRequest, instruction: str | None, spent_s: float = 0
    ) -> RecommendRequest:
        """A recommendation request with the fields that a chat request shares with it, and the time
        left."""
        shared = RecommendRequest.model_fields.keys() & ChatRequest.model_fields.keys()
        shared -= {"candidates", "filters", "exclude", "top_n", "deadline_ms"}
        deadline_ms = request.deadline_ms or self._settings.service.deadline_ms
        return RecommendRequest(
            **{name: getattr(request, name) for name in shared},
            top_n=request.top_n or PICKS,
            instruction=instruction or None,
            deadline_ms=max(deadline_ms - round(1000 * spent_s), 1),
        )

    async def _stream(
        self, documents: list[Document] | None, wanted: RecommendRequest, call: CallContext
    ) -> Stream:
        """Ranks the catalogue, or the caller's documents."""
        if documents is None:
            return await self._recommender.stream(wanted, call)
        shared = RerankRequest.model_fields.keys() & RecommendRequest.model_fields.keys()
        rerank = RerankRequest(
            query=wanted.instruction or "",
            documents=documents,
            **{name: getattr(wanted, name) for name in shared},
        )
        return await self._recommender.rerank_stream(rerank, call)

    # ── in words ──────────────────────────────────────────────────────────────────────────────────

    async def _picks(
        self,
        turn: _Turn,
        noted: list[Event],
        wanted: RecommendRequest,
        stream: Stream,
        usage: Usage,
    ) -> Answer:
        """Yields an opening, then a line for each item as soon as its reason is known. If no item
        passes the filters read from the conversation, says so and ranks without them. `usage`: of
        understanding the wish."""
        words = turn.words
        text = chat.opening(turn.talk, words, noted)
        yield text
        ranking = cast(Ranking, await anext(stream))
        if not ranking.items and turn.talk.filters:
            await stream.aclose()
            text += f"\n\n{words.dropped}"
            yield f"\n\n{words.dropped}"
            wanted = wanted.model_copy(update={"filters": turn.request.filters})
            stream = await self._recommender.stream(wanted, turn.call)
            ranking = cast(Ranking, await anext(stream))
        titles = [item.title or item.item_id for item in ranking.items]
        items = await self._catalog.get(item.item_id for item in ranking.items)
        gap = "\n\n"
        async with aclosing(stream):
            async for part in _with_unexplained(stream):
                if isinstance(part, Ranking):
                    ranking = part
                    continue
                title, item = titles[part.rank - 1], items.get(part.item_id)
                piece = gap + chat.pick(part.rank, title, item, part.reason)
                yield piece
                text, gap = text + piece, "\n"
        if not ranking.items:
            yield f"\n\n{words.nothing}"
            text += f"\n\n{words.nothing}"
        yield ChatReply.model_construct(
            text=text, kind="recommend", ranking=ranking, noted=noted, usage=ranking.usage + usage
        )

    async def _about(self, turn: _Turn, kind: chat.Kind) -> Answer:
        """Describes items shown before, or explains why they were recommended, by a new ranking."""
        text, usage, ranking = "", Usage(), None
        for item in turn.talk.about[:EXPLAINED]:
            if kind == "why":
                ranking = await self._again(turn, item)
                usage += ranking.usage
                moved_by = await self._catalog.get(ranking.items[0].attribution)
                said = chat.justified(item, ranking.items[0], moved_by, turn.words)
            else:
                said = chat.described(item, turn.words)
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

    async def _shaped(self, shape: Mapping[str, Any], answer: Answer) -> Answer:
        """Converts an answer into JSON of the caller's schema, as a single piece."""
        from service.chat.shape import filled

        async with aclosing(answer):
            *_, reply = [part async for part in answer if isinstance(part, ChatReply)]
        items = reply.ranking.items if reply.ranking is not None else []
        known = await self._catalog.get(item.item_id for item in items)
        picks = [_pick(item, known.get(item.item_id)) for item in items]
        text = json.dumps(filled(shape, reply.text, picks), ensure_ascii=False)
        yield text
        yield reply.model_copy(update={"text": text})


def _digest(parts: Sequence[Any]) -> str:
    """An id that is always the same for the same values of JSON."""
    return sha256(json.dumps(parts).encode()).hexdigest()[:32]


async def _with_unexplained(stream: Stream) -> AsyncGenerator[Ranking | Reason | Ranked, None]:
    """Yields what the stream yields, and before its last ranking the items without a reason."""
    async for part in stream:
        if isinstance(part, Ranking):
            for item in part.items:
                if item.reason is None:
                    yield item
        yield part


async def _say(text: str, kind: chat.Kind, noted: Sequence[Event] = ()) -> Answer:
    yield text
    yield ChatReply(text=text, kind=kind, noted=[*noted])


def _pick(row: Ranked, item: Item | None) -> dict[str, Any]:
    """Values that a JSON answer may use for an item: its rank, reason and attributes."""
    own = item.model_dump(include={"url", "image_url", "text"}) if item is not None else {}
    attributes = item.attributes if item is not None else {}
    return {**attributes, **own, **row.model_dump(exclude={"signals", "attribution"})}
