"""Turns the caller's documents into items, gives each an id, and completes them from the
catalogue."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from service.candidates import first_of
from service.catalog import READ, Catalog, words_of
from service.config import Limits
from service.errors import check_limit
from service.plan import Plan
from service.prompts import shown_of
from service.schema import Candidate, Item, Ranking, RerankRequest


@dataclass(frozen=True)
class Documents:
    """The caller's documents as items in the caller's order, each with a unique id."""

    items: list[Item]

    @property
    def spoken(self) -> list[Item]:
        """The documents that have content: a title, a text or attributes."""
        return [item for item in self.items if says_something(item)]

    @property
    def blank(self) -> list[Item]:
        return [item for item in self.items if not says_something(item)]

    @property
    def places(self) -> dict[str, int]:
        """Each document's position in the caller's list, from 0, by its id."""
        return {item.id: place for place, item in enumerate(self.items)}

    def blank_warning(self) -> list[str]:
        places = [place for place, item in enumerate(self.items) if not says_something(item)]
        why = "blank, or only an id that the catalogue does not have, so last and without a reason"
        return [f"{why}: documents {first_of(places)}"] if places else []

    def unread_warnings(
        self, plan: Plan, ranking: Ranking, candidates: Sequence[Candidate], unembedded: int
    ) -> list[str]:
        """Warnings about documents, or parts of them, that were not read: not judged by the model,
        cut, or not embedded."""
        depth, size = plan.context.depth, plan.context.line_tokens
        count = len(self.spoken)
        read = candidates[:depth] if ranking.model is not None else []
        judged = {candidate.item.id for candidate in read}
        cut = [
            place
            for place, item in enumerate(self.items)
            if len(item.text) > READ or (item.id in judged and len(shown_of(item)) > size)
        ]
        shown = f", of those shown to a model {size} tokens (rerank.line_tokens)" if judged else ""
        unjudged = (
            f"a model judged {depth} of {count} documents (rank.depth); the others follow in the "
            "prior's order"
        )
        unread = f"cut to the first {READ} characters{shown}: documents {first_of(cut)}"
        by_words = (
            f"no time to embed {unembedded} of {count} documents: only their words count; raise "
            "deadline_ms"
        )
        warnings = [
            (unjudged, bool(judged) and depth < count),
            (unread, bool(cut)),
            (by_words, unembedded > 0),
        ]
        return [warning for warning, applies in warnings if applies]


def says_something(item: Item) -> bool:
    return bool(item.title.strip() or item.text.strip() or item.attributes)


@dataclass(frozen=True)
class DocumentReader:
    """Reads a request's documents."""

    catalog: Catalog
    limits: Limits

    async def read(self, request: RerankRequest) -> Documents:
        """Turns the documents into items. An id that the catalogue knows adds the item's
        data; a document without an id, or with one used before, gets one made from its content.
        Raises `BadRequest` if the request exceeds a limit."""
        limits = self.limits
        check_limit("documents", len(request.documents), limits.documents, "documents")
        check_limit("query", len(request.query), limits.query_chars, "query_chars", " characters")
        named = [
            document.name if request.documents_are_ids else document.id
            for document in request.documents
        ]
        known = await self.catalog.get(name for name in named if name is not None)
        items: dict[str, Item] = {}
        times = Counter[str]()
        for document, said in zip(request.documents, named, strict=True):
            name = document.id or (said if said in known else None)
            item = document.over(known.get(name or ""))
            key = base = name if name is not None and name not in items else _name_of(item)
            while key in items:
                times[base] += 1
                key = f"{base}+{times[base]}"
            items[key] = item.model_copy(update={"id": key})
        return Documents(list(items.values()))


def _name_of(item: Item) -> str:
    return f"document-{sha256(words_of(item).encode()).hexdigest()[:16]}"
