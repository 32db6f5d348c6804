"""A sentence transformer in ONNX, by onnxruntime: a folder with `model.onnx` and `tokenizer.json`,
as `whyrank models pull minilm` makes one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.embed.local import MAX_TOKENS, LocalEmbedder, Text, Vectors, named_by
from service.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turns any error in the block into a `ConfigError` that says how to get the embedder's `file`
    anew."""
    try:
        yield
    except Exception as error:  # those of onnxruntime and tokenizers have no class in common
        raise ConfigError(
            f"{file}: not readable as an embedder's ({error}): move {file.parent} away, "
            f"then 'whyrank models pull minilm'",
            param="embed.path",
        ) from error


class OnnxEmbedder(LocalEmbedder):
    """The model in the folder `path`, a text's vector being the mean of its tokens'. `threads`:
    cores that one call may use. `batch`: texts per forward pass. Raises `ConfigError` if the folder
    lacks a file.

    Loading takes half a second.
    """

    def __init__(self, path: Path, *, threads: int = 1, batch: int = 32) -> None:
        super().__init__()
        self._model_file, self._tokenizer_file = path / "model.onnx", path / "tokenizer.json"
        if not (self._model_file.exists() and self._tokenizer_file.exists()):
            raise ConfigError(
                f"no embedder in {path}: run 'whyrank models pull minilm'", param="embed.path"
            )
        self._threads = threads
        self._batch = batch
        with _readable(self._model_file):
            self.name = named_by("minilm", self._model_file)

    @property
    def loaded(self) -> bool:
        return "_session" in vars(self)

    @property
    def dimension(self) -> int:
        return int(self._session.get_outputs()[0].shape[-1])

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        with _readable(self._model_file):
            return onnxruntime.InferenceSession(
                self._model_file, options, providers=["CPUExecutionProvider"]
            )

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        with _readable(self._tokenizer_file):
            tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        tokenizer.enable_padding()  # the file's own setting pads every text to 128 tokens
        tokenizer.enable_truncation(MAX_TOKENS)
        return tokenizer

    @property
    def _vocabulary(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def _embed(self, texts: Sequence[Text]) -> tuple[Vectors, int]:
        """Returns unit vectors in input order, and how many tokens were read. Texts of similar
        length share a batch, so that little of the work is padding."""
        words = [
            text if isinstance(text, str) else self._tokenizer.decode(list(text)) for text in texts
        ]
        order = sorted(range(len(words)), key=lambda n: len(words[n]))
        vectors = np.empty((len(words), self.dimension), dtype=np.float32)
        tokens = 0
        for start in range(0, len(order), self._batch):
            batch = order[start : start + self._batch]
            vectors[batch], read = self._forward([words[n] for n in batch])
            tokens += read
        return vectors, tokens

    def _forward(self, texts: list[str]) -> tuple[Vectors, int]:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([text.ids for text in encoded], dtype=np.int64)
        mask = np.array([text.attention_mask for text in encoded], dtype=np.int64)
        hidden = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        weights = mask[:, :, None].astype(np.float32)
        mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        unit: Vectors = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return unit, int(mask.sum())


def count_tokens(messages: Sequence[Mapping[str, str]], tokenizer: Path) -> int | None:
    """Returns how many tokens the messages' text has, without those of a chat template; None if the
    file `tokenizer` (a `tokenizer.json`) doesn't exist."""
    if not tokenizer.exists():
        return None
    from tokenizers import Tokenizer

    encode = Tokenizer.from_file(str(tokenizer)).encode
    return sum(
        len(encode(message["content"], add_special_tokens=False).ids) for message in messages
    )
