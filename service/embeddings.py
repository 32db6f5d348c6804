"""Embeds callers' texts in the catalogue's own embedding space."""

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
        """The embedder's name. Vectors made by embedders of different names can't be compared."""
        self.dimension = catalog.dimension

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> tuple[Any, int]:
        """Returns unit vectors, shape [len(texts), dimension], of texts or of lists of token ids,
        and how many tokens were read. Raises `BadRequest` for more than `limits.inputs` texts."""
        check_limit("input", len(texts), self._most, "inputs")
        return await self._embedder.counted(texts)
