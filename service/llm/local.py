"""A language model in this process. Its weights are loaded, and torch is imported, at first use, on
a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import InvalidOutput, ModelUnreachable
from service.llm import About, Likelihoods, OutgoingAsked
from service.schema import Price

if TYPE_CHECKING:
    from service.llm.packed import PackedModel


class Local:
    """Scores texts by the weights in `folder` (safetensors, tokenizer.json). `cache_mb`: how much
    memory kept contexts may take."""

    price: Price | None = None

    def __init__(self, alias: str, folder: Path, *, threads: int, cache_mb: int) -> None:
        self.alias = alias
        self._folder = folder
        self._threads = threads
        self._bound = cache_mb * 2**20
        # one caller at a time: torch uses all its threads for each
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=alias)
        self._engine: PackedModel | None = None

    async def loglikelihoods(
        self, asked: Sequence[OutgoingAsked], *, apart: bool = False
    ) -> Likelihoods:
        """Scores each text after its context. Raises `ModelUnreachable` if the weights can't be
        loaded, `InvalidOutput` for a question without a context or without a text."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._score, list(asked), apart
        )

    async def about(self) -> About:
        """Sizes and times of the weight files."""
        files = await asyncio.to_thread(lambda: sorted(self._folder.glob("*.safetensors")))
        return About(
            {file.name: f"{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files}
        )

    async def close(self) -> None:
        """Does nothing: the weights stay in memory until the process ends."""

    @property
    def held(self) -> int:
        """Bytes that kept contexts take."""
        return self._engine.held if self._engine is not None else 0

    def _score(self, asked: list[OutgoingAsked], apart: bool) -> Likelihoods:
        if self._engine is None:
            try:
                from service.llm.packed import PackedModel  # torch takes seconds to import

                self._engine = PackedModel(self._folder, self._bound, self._threads)
            except Exception as error:  # tokenizers raises nothing more special
                raise ModelUnreachable(
                    f"{self.alias}: no weights to load in {self._folder}: {error}"
                ) from error
        if not all(question.context and question.text for question in asked):
            raise InvalidOutput("a text and a context are needed to score one after the other")
        return self._engine.score_apart(asked) if apart else self._engine.score(asked)
