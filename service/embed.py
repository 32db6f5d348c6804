"""The catalogue's embedding space: a MiniLM sentence transformer, in process, by onnxruntime.

Reads `model.onnx` and `tokenizer.json` from a folder that `whyrank models pull minilm` makes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from service.errors import ConfigError

Vectors = npt.NDArray[np.float32]

MAX_TOKENS = 256
"""What the model was trained with; a longer text is cut there."""


class Embedder:
    """`threads`: cores one call may use. `batch`: texts per forward pass. Raises `ConfigError` if the folder lacks a file."""

    def __init__(self, path: Path, *, threads: int = 1, batch: int = 32) -> None:
        model, tokenizer = path / "model.onnx", path / "tokenizer.json"
        if not (model.exists() and tokenizer.exists()):
            raise ConfigError(f"no embedder in {path}: run 'whyrank models pull minilm'", param="embed.path")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_padding()  # the file's own setting pads every text to 128 tokens
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._batch = batch
        self.dimension: int = self._session.get_outputs()[0].shape[-1]
        self.name = f"minilm-{hashlib.sha256(model.read_bytes()).hexdigest()[:12]}"
        self._one = lru_cache(maxsize=4_096)(lambda text: self._forward([text])[0])

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape [len(texts), dimension], in input order."""
        return await asyncio.to_thread(self._embed, texts)

    async def embed_one(self, text: str) -> Vectors:
        """One unit vector, shape [dimension]; recent texts are remembered."""
        return await asyncio.to_thread(self._one, text)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Texts of similar length share a batch, so that little of the work is padding."""
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        out = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(order), self._batch):
            part = order[start : start + self._batch]
            out[part] = self._forward([texts[n] for n in part])
        return out

    def _forward(self, texts: list[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([text.ids for text in encoded], dtype=np.int64)
        mask = np.array([text.attention_mask for text in encoded], dtype=np.int64)
        hidden = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        weights = mask[:, :, None].astype(np.float32)
        mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        unit: Vectors = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return unit


def count_tokens(messages: Sequence[Mapping[str, str]], tokenizer: Path) -> int | None:
    """Tokens of a chat's text, without the template's own; None if there is no such tokenizer."""
    if not tokenizer.exists():
        return None
    reader = Tokenizer.from_file(str(tokenizer))
    return sum(len(reader.encode(message["content"], add_special_tokens=False).ids) for message in messages)
