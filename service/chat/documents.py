"""The caller's own documents in a conversation, as items with names that the person can use."""

from collections.abc import Mapping, Sequence

from service.catalog import Catalog
from service.chat.picks import names, plain, shown
from service.chat.reading import Talk
from service.schema import ChatRequest, Document, Item

TITLE_CHARS = 80
OWN = "\x1f"
"""First character of the id that a document without one gets. It is a control character, which no
item's id contains. No events are stored about such documents."""

OwnDocuments = Sequence[tuple[Document, Item]]
"""Each document with the title that answers show, and as an item, with an id too."""


async def own_documents(catalog: Catalog, request: ChatRequest) -> OwnDocuments:
    """The caller's documents, in their order."""
    documents = request.documents or []
    known = await catalog.get(document.name for document in documents if document.name is not None)
    own = []
    for n, document in enumerate(documents):
        item_id = document.name or f"{OWN}{n}"
        titled = _titled(document, known)
        item = titled.over(known.get(item_id))
        update = {"id": item_id, "title": item.title or document.text[:TITLE_CHARS]}
        own.append((titled, item.model_copy(update=update)))
    return own


async def called(
    catalog: Catalog, request: ChatRequest, own: OwnDocuments
) -> dict[str, list[Item]]:
    """Items by the names that earlier answers may have used; the caller's documents by their titles
    and ids."""
    spoken = names(request.turns)
    called_own = {
        name: [item] for _, item in own for name in {plain(shown(item.title)), item.id} & spoken
    }
    return {**await catalog.called(spoken), **called_own}


async def without_excluded(
    catalog: Catalog, request: ChatRequest, talk: Talk, own: OwnDocuments
) -> ChatRequest | None:
    """The request without the documents or candidates that the person excluded; None if none
    remain."""
    exclude = {*request.exclude, *talk.exclude}
    avoid = {value.casefold() for value in talk.avoid}
    if request.documents is not None:
        documents = [
            document
            for document, item in own
            if item.id not in exclude and not avoid & _values(item)
        ]
        return request.model_copy(update={"documents": documents}) if documents else None
    if request.candidates is not None:
        known = await catalog.get(request.candidates) if avoid else {}
        exclude |= {item.id for item in known.values() if avoid & _values(item)}
        ids = [item_id for item_id in request.candidates if item_id not in exclude]
        return request.model_copy(update={"candidates": ids}) if ids else None
    return request


def _titled(document: Document, known: Mapping[str, Item]) -> Document:
    """Gives a document without title and id its first line as title."""
    if document.title or document.id is not None or document.name in known:
        return document
    title = document.text.strip().partition("\n")[0][:TITLE_CHARS]
    return document.model_copy(update={"title": title})


def _values(item: Item) -> set[str]:
    """An item's textual attribute values in lower case."""
    return {value.casefold() for _, value in item.facts() if isinstance(value, str)}
