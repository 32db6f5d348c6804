"""The embedding space of the catalogue: what an embedder must offer, and the place of a text or a
person in a space."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Embeds(Protocol):
    """What the catalogue needs of an embedder: unit vectors in one space of a fixed dimension, and
    the space's name.

    While it is not `loaded`, asking for `dimension` takes a moment, as it loads the model; `name`
    then stands for one model.
    """

    @property
    def name(self) -> str: ...
    @property
    def loaded(self) -> bool: ...
    @property
    def dimension(self) -> int: ...
    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape [len(texts), dimension]."""

    async def embed_one(self, text: str) -> Vectors:
        """One unit vector, shape [dimension]; recent texts are remembered."""

    async def counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Vectors, int]:
        """Unit vectors of texts or token ids, and how many tokens were read."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class UserFactors:
    """A person's vector among the items' factors. `factors_of`: the version of the training."""

    vector: tuple[float, ...]
    factors_of: str


def fingerprint(embedder: Embeds, words: str) -> str:
    """A hash of all that a vector depends on: the embedder and the words."""
    return hashlib.sha256(f"{embedder.name}\n{words}".encode()).hexdigest()[:16]
