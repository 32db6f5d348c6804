"""The caller's own documents in a conversation, as items with names that the person can use."""

from collections.abc import Mapping

from service.catalog import Catalog
from service.chat.picks import names
from service.chat.reading import Talk
from service.chat.words import plain, shown
from service.schema import ChatRequest, Document, Item

TITLE_CHARS = 80
OWN = "\x1f"
"""First character of the id that a document without one gets. It is a control character, which no
item's id contains. No events are stored about such documents."""


class OwnDocuments:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def called(self, request: ChatRequest) -> dict[str, list[Item]]:
        """Items by the names that earlier answers may have used; the caller's documents by their
        titles and ids."""
        spoken = names(request.turns)
        called = await self._catalog.called(spoken)
        for item in await self.items(request):
            called |= {name: [item] for name in {plain(shown(item.title)), item.id} & spoken}
        return called

    async def items(self, request: ChatRequest) -> list[Item]:
        """The documents as items, each with an id and with the title that answers show."""
        documents = request.documents or []
        known = await self._known(documents)
        items = []
        for n, document in enumerate(documents):
            item = titled(document, known).over(known.get(document.name or ""))
            title = item.title or document.text[:TITLE_CHARS]
            item_id = document.name or f"{OWN}{n}"
            items.append(item.model_copy(update={"id": item_id, "title": title}))
        return items

    async def titled(self, request: ChatRequest) -> list[Document]:
        """The documents, each with the title that answers show."""
        documents = request.documents or []
        known = await self._known(documents)
        return [titled(document, known) for document in documents]

    async def left(self, request: ChatRequest, talk: Talk) -> ChatRequest | None:
        """The request without the documents or candidates that the person excluded; None if none
        remain."""
        exclude = {*request.exclude, *talk.exclude}
        avoid = {value.casefold() for value in talk.avoid}
        if request.documents is not None:
            documents = [
                document
                for document, item in zip(request.documents, await self.items(request), strict=True)
                if item.id not in exclude and not avoid & _values(item)
            ]
            return request.model_copy(update={"documents": documents}) if documents else None
        if request.candidates is not None:
            known = await self._catalog.get(request.candidates) if avoid else {}
            exclude |= {item.id for item in known.values() if avoid & _values(item)}
            ids = [item_id for item_id in request.candidates if item_id not in exclude]
            return request.model_copy(update={"candidates": ids}) if ids else None
        return request

    async def _known(self, documents: list[Document]) -> dict[str, Item]:
        return await self._catalog.get(
            document.name for document in documents if document.name is not None
        )


def titled(document: Document, known: Mapping[str, Item]) -> Document:
    """Gives a document without title and id its first line as title."""
    if document.title or document.id is not None or document.name in known:
        return document
    title = document.text.strip().partition("\n")[0][:TITLE_CHARS]
    return document.model_copy(update={"title": title})


def _values(item: Item) -> set[str]:
    """An item's textual attribute values in lower case."""
    return {value.casefold() for _, value in item.facts() if isinstance(value, str)}
