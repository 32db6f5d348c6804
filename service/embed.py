"""The catalogue's embedding space: a MiniLM sentence transformer, in process, by onnxruntime, or
somebody's /v1/embeddings.

In process it reads `model.onnx` and `tokenizer.json` from a folder that `whyrank models pull
minilm` makes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from service.errors import BadRequest, ConfigError, InvalidOutput, ModelError, ModelUnreachable

if TYPE_CHECKING:
    import httpx
    from tokenizers import Tokenizer

Vectors = npt.NDArray[np.float32]

MAX_TOKENS = 256
"""The length the model was trained with; a longer text is cut there."""
REMEMBERED = 4_096
"""How many single texts keep their vector in memory."""


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Within, an error is a `ConfigError` that says how to get the embedder's file anew."""
    try:
        yield
    except Exception as error:  # those of onnxruntime and tokenizers have no class in common
        raise ConfigError(
            f"{file}: not readable as an embedder's ({error}): move {file.parent} away, "
            f"then 'whyrank models pull minilm'",
            param="embed.path",
        ) from error


class Embedder:
    """The MiniLM in the folder `path`. `threads`: cores that one call may use. `batch`: texts per
    forward pass. Raises `ConfigError` if the folder lacks a file.

    The model is loaded at first use, which takes half a second and raises `ConfigError` for a file
    that can't be read.
    """

    def __init__(self, path: Path, *, threads: int = 1, batch: int = 32) -> None:
        self._model_file, self._tokenizer_file = path / "model.onnx", path / "tokenizer.json"
        if not (self._model_file.exists() and self._tokenizer_file.exists()):
            raise ConfigError(
                f"no embedder in {path}: run 'whyrank models pull minilm'", param="embed.path"
            )
        self._threads = threads
        self._batch = batch
        self._embed_one = lru_cache(maxsize=REMEMBERED)(lambda text: self._forward([text])[0])
        with _readable(self._model_file), self._model_file.open("rb") as file:
            self.name = f"minilm-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"

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

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape [len(texts), dimension], in input order."""
        return await asyncio.to_thread(self._embed, texts)

    async def embed_one(self, text: str) -> Vectors:
        """One unit vector, shape [dimension]; recent texts are remembered."""
        return await asyncio.to_thread(self._embed_one, text)

    async def counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Vectors, int]:
        """Vectors of texts or of token ids, and how many tokens were read. Raises `BadRequest` for
        an id that is no token."""
        return await asyncio.to_thread(self._counted, texts)

    async def close(self) -> None:
        """Does nothing: the embedder holds no connection."""

    def _counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Vectors, int]:
        known = self._tokenizer.get_vocab_size()
        if any(token >= known for text in texts if not isinstance(text, str) for token in text):
            raise BadRequest(f"input: token ids are below {known}", param="input")
        words = [
            text if isinstance(text, str) else self._tokenizer.decode(list(text)) for text in texts
        ]
        encoded = self._tokenizer.encode_batch(words)
        return self._embed(words), sum(sum(text.attention_mask) for text in encoded)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Texts of similar length share a batch, so that little of the work is padding."""
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(order), self._batch):
            batch = order[start : start + self._batch]
            vectors[batch] = self._forward([texts[n] for n in batch])
        return vectors

    def _forward(self, texts: list[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([text.ids for text in encoded], dtype=np.int64)
        mask = np.array([text.attention_mask for text in encoded], dtype=np.int64)
        hidden = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        weights = mask[:, :, None].astype(np.float32)
        mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        unit: Vectors = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return unit


class RemoteEmbedder:
    """Any server of OpenAI's `/embeddings`. Made by `await RemoteEmbedder.open(…)`, which sends it
    one request. `redact` changes every text before it is sent; token ids can't be redacted and are
    sent as the caller gave them."""

    loaded = True

    def __init__(
        self, client: httpx.AsyncClient, model: str, batch: int, redact: Callable[[str], str]
    ) -> None:
        self._client = client
        self._redact = redact
        self._model = model
        self._batch = batch
        self.dimension = 0
        self.name = f"{model}-{hashlib.sha256(str(client.base_url).encode()).hexdigest()[:12]}"
        self._known: dict[str, Vectors] = {}

    @classmethod
    async def open(
        cls,
        base_url: str,
        model: str,
        *,
        api_key: str | None,
        batch: int,
        timeout_s: float,
        redact: Callable[[str], str] = str,
    ) -> RemoteEmbedder:
        """`batch`: texts per request. Raises `ConfigError` if the server gives no vector."""
        import httpx

        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        client = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout_s)
        embedder = cls(client, model, batch, redact)
        try:
            embedder.dimension = (await embedder.embed(["dimension"])).shape[1]
        except ModelError as error:
            await embedder.close()
            raise ConfigError(
                f"embed.base_url {base_url}: {error.message}", param="embed.base_url"
            ) from error
        return embedder

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """As `Embedder.embed`. Raises a `ModelError` if the server fails."""
        return (await self.counted(texts))[0]

    async def embed_one(self, text: str) -> Vectors:
        clean = self._redact(text)
        if clean not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[clean] = (await self.embed([clean]))[0]
        return self._known[clean]

    async def counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Vectors, int]:
        clean = [self._redact(text) if isinstance(text, str) else text for text in texts]
        answers = [
            await self._request(clean[start : start + self._batch])
            for start in range(0, len(clean), self._batch)
        ]
        return np.concatenate([vectors for vectors, _ in answers]), sum(n for _, n in answers)

    async def _request(self, texts: list[Any]) -> tuple[Vectors, int]:
        """Unit vectors and their count of tokens (0 where the server says none), by one request.
        Raises a `ModelError` for any answer that is not one finite vector a text."""
        import httpx

        try:
            response = await self._client.post(
                "embeddings",
                json={"model": self._model, "input": texts, "encoding_format": "float"},
            )
            response.raise_for_status()
            answer = response.json()
            rows = sorted(answer["data"], key=lambda row: row["index"])
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
            tokens = int(answer.get("usage", {}).get("prompt_tokens", 0))
        except httpx.HTTPError as error:
            raise ModelUnreachable(f"the embedder failed: {error!r}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidOutput(f"not an embedding answer: {error!r}") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise InvalidOutput(f"{len(texts)} vectors were asked for, something else came")
        if self.dimension and vectors.shape[1] != self.dimension:
            raise InvalidOutput(
                f"vectors of {vectors.shape[1]} dimensions; they had {self.dimension} before"
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = vectors / np.where(norms == 0, 1, norms)
        return unit, tokens

    async def close(self) -> None:
        await self._client.aclose()


def count_tokens(messages: Sequence[Mapping[str, str]], tokenizer: Path) -> int | None:
    """How many tokens the messages' text has, without those of a chat template. `tokenizer`: a
    `tokenizer.json`; None if there is no such file."""
    if not tokenizer.exists():
        return None
    from tokenizers import Tokenizer

    encode = Tokenizer.from_file(str(tokenizer)).encode
    return sum(
        len(encode(message["content"], add_special_tokens=False).ids) for message in messages
    )
