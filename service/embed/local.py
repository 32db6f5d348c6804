"""What embedders in this process have in common."""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import BadRequest

Vectors = npt.NDArray[np.float32]
Text = str | Sequence[int]
"""A text, or its token ids."""

MAX_TOKENS = 256
"""A longer text is cut there."""
REMEMBERED = 4_096
"""How many single texts keep their vector in memory."""


class LocalEmbedder(ABC):
    """An embedder whose model runs in this process. `name` tells its vectors from those of any
    other embedder."""

    name: str

    def __init__(self) -> None:
        self._embed_one = lru_cache(maxsize=REMEMBERED)(lambda text: self._embed([text])[0][0])

    @property
    @abstractmethod
    def loaded(self) -> bool:
        """Returns whether `dimension` can be read without loading the model. Embedding, or reading
        `dimension` where this is false, loads it, and raises `ConfigError` if a file of it can't be
        read."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """The length of a vector."""

    @property
    @abstractmethod
    def _vocabulary(self) -> int:
        """How many token ids there are."""

    @abstractmethod
    def _embed(self, texts: Sequence[Text]) -> tuple[Vectors, int]:
        """Unit vectors in input order, and how many tokens were read."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape [len(texts), dimension], in input order."""
        return (await asyncio.to_thread(self._embed, texts))[0]

    async def embed_one(self, text: str) -> Vectors:
        """One unit vector, shape [dimension]; recent texts are remembered."""
        return await asyncio.to_thread(self._embed_one, text)

    async def counted(self, texts: Sequence[Text]) -> tuple[Vectors, int]:
        """Vectors of texts or of token ids, and how many tokens were read. Raises `BadRequest` for
        an id that is no token."""
        return await asyncio.to_thread(self._counted, texts)

    def _counted(self, texts: Sequence[Text]) -> tuple[Vectors, int]:
        known = self._vocabulary
        if any(token >= known for text in texts if not isinstance(text, str) for token in text):
            raise BadRequest(f"input: token ids are below {known}", param="input")
        return self._embed(texts)

    async def close(self) -> None:  # noqa: B027  # there is nothing to close, in any of them
        """Does nothing: the embedder holds no connection."""


def named_by(name: str, file: Path) -> str:
    """The name with a hash of the file's content: other weights make another space."""
    return f"{name}-{_hash(file, file.stat().st_mtime_ns)}"


@lru_cache(maxsize=8)
def _hash(file: Path, modified_at: int) -> str:
    """Returns a hash of the file's content, remembered until `modified_at` changes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:12]
