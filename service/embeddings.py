"""Texts in the catalogue's own embedding space, for whoever asks."""

from collections.abc import Sequence
from typing import Any

from service.catalog import Catalog
from service.config import Limits
from service.errors import check_limit


class EmbeddingSpace:
    def __init__(self, catalog: Catalog, limits: Limits) -> None:
        self._embedder = catalog.embedder
        self._most = limits.inputs
        self.name = catalog.embedder.name
        """The embedder's name: whoever has another is in another space."""
        self.dimension = catalog.dimension

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> tuple[Any, int]:
        """Unit vectors, shape [len(texts), dimension], of texts or their token ids; and how many
        tokens were read. Raises `BadRequest` for too many."""
        check_limit("input", len(texts), self._most, "inputs")
        return await self._embedder.counted(texts)
