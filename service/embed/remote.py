"""Any server of OpenAI's `/embeddings`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from service.embed.local import REMEMBERED, Text, Vectors
from service.errors import ConfigError, InvalidOutput, ModelError, ModelUnreachable

if TYPE_CHECKING:
    import httpx


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
        """Makes an embedder, and asks the server for one vector to learn the dimension. `batch`:
        texts per request. Raises `ConfigError` if the server gives no vector."""
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
        """As `LocalEmbedder.embed`. Raises a `ModelError` if the server fails."""
        return (await self.counted(texts))[0]

    async def embed_one(self, text: str) -> Vectors:
        clean = self._redact(text)
        if clean not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[clean] = (await self.embed([clean]))[0]
        return self._known[clean]

    async def counted(self, texts: Sequence[Text]) -> tuple[Vectors, int]:
        clean = [self._redact(text) if isinstance(text, str) else text for text in texts]
        answers = [
            await self._request(clean[start : start + self._batch])
            for start in range(0, len(clean), self._batch)
        ]
        return np.concatenate([vectors for vectors, _ in answers]), sum(n for _, n in answers)

    async def _request(self, texts: list[Any]) -> tuple[Vectors, int]:
        """Embeds texts in one request. Returns unit vectors and how many tokens were read (0 if the
        server doesn't say). Raises a `ModelError` for any answer that is not one finite vector for
        each text."""
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
