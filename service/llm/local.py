"""A language model in this process, by torch: how likely texts are after their contexts, all of them in one forward pass.

Contexts and texts are laid out as one tree of tokens: what they share is computed once, each token sees its own ancestors
only (a mask), and its position is its depth. The keys and values of the first context are kept, so that the same context
costs nothing the next time, and a longer one only what is new.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer

from service.errors import InvalidOutput, ModelUnreachable
from service.llm import Asked, Likelihoods
from service.schema import Usage

LARGEST = 1_024
"""So many new tokens a pass, at least one text; more texts are passed on to the next."""
VOCABULARY_ROWS = 256
"""Positions whose distribution over the vocabulary is held in memory at a time."""


class Local:
    """Weights in `folder` (safetensors, tokenizer.json), loaded at first use. `cache_mb`: bound of the kept contexts."""

    def __init__(self, alias: str, folder: Path, *, threads: int, cache_mb: int) -> None:
        self.alias = alias
        self._folder = folder
        self._threads = threads
        self._bound = cache_mb * 2**20
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=alias)  # torch is given all its threads by one caller
        self._engine: _Engine | None = None

    async def loglikelihoods(self, asked: Sequence[Asked]) -> Likelihoods:
        """Natural logarithms, in the order asked. Raises `ModelUnreachable` if the weights can't be loaded."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._score, list(asked))

    async def close(self) -> None:
        """Nothing: what is loaded is shared by all of a process that name it, and lives as long."""

    def _score(self, asked: list[Asked]) -> Likelihoods:
        if self._engine is None:
            torch.set_num_threads(self._threads)
            try:
                self._engine = _Engine(self._folder, self._bound)
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                raise ModelUnreachable(f"{self.alias}: no weights to load in {self._folder}: {error}") from error
        return self._engine.score(asked)


@dataclass
class _Kept:
    """A context's keys and values ([1, heads, tokens, width] a layer) and last hidden states ([tokens, width])."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    hidden: torch.Tensor

    @property
    def size(self) -> int:
        tensors = [self.hidden, *(part for layer in self.layers for part in layer)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Engine:
    def __init__(self, folder: Path, bound: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokens = lru_cache(maxsize=65_536)(self._tokens)
        self.model = _load(folder)
        self.kept: OrderedDict[tuple[int, ...], _Kept] = OrderedDict()
        self.bound = bound
        self.held = 0

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def score(self, asked: list[Asked]) -> Likelihoods:
        values: list[float] = []
        usage = Usage()
        while len(values) < len(asked):
            found, cost = self._pass(asked[len(values) :])
            values += found
            usage += cost
        return Likelihoods(values, usage)

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is not type-checked here
    def _pass(self, asked: list[Asked]) -> tuple[list[float], Usage]:
        """The first of `asked`, as many as fit into one pass."""
        path = [token for piece in asked[0].context for token in self.tokens(piece)]
        kept, known = self._longest(asked[0].context)
        tree = _Tree(path[:known])
        end = tree.grow(path)
        targets: list[list[tuple[int, int]]] = []
        for one in asked:
            text = self.tokens(one.text)
            if not text or not one.context:
                raise InvalidOutput(f"nothing to score: {one}")
            if targets and len(tree.tokens) + len(text) > LARGEST:
                break
            node = tree.grow([token for piece in one.context for token in self.tokens(piece)])
            steps = []
            for place, token in enumerate(text):
                steps.append((node, token))
                node = tree.child(node, token) if place + 1 < len(text) else node
            targets.append(steps)
        hidden, layers = self._forward(tree, kept)
        if end >= known:
            self._keep(path, known, tree, kept, hidden, layers)
        everything = torch.cat([kept.hidden[:known], hidden]) if kept else hidden
        flat = [step for steps in targets for step in steps]
        logs = self._logs(everything[[node for node, _ in flat]], [token for _, token in flat])
        cuts = np.cumsum([0, *(len(steps) for steps in targets)])
        values = [float(logs[start:stop].sum()) for start, stop in pairwise(cuts)]
        usage = Usage(prompt_tokens=known + len(tree.tokens), total_tokens=known + len(tree.tokens), cached_tokens=known)
        return values, usage

    def _forward(self, tree: _Tree, kept: _Kept | None) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        if not tree.tokens:
            return torch.empty(0, self.model.config.hidden_size, dtype=self.model.dtype, device=self.model.device), []
        device, dtype = self.model.device, self.model.dtype
        seen = torch.from_numpy(tree.mask()).to(device)
        mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
        layers = [(key[:, :, : tree.known], value[:, :, : tree.known]) for key, value in kept.layers] if kept else None
        cache = transformers.DynamicCache(layers)
        found = self.model.model(
            input_ids=torch.tensor([tree.tokens], device=device),
            position_ids=torch.tensor([tree.depths], device=device),
            attention_mask=mask[None, None],
            past_key_values=cache,
            use_cache=True,
        )
        return found.last_hidden_state[0], [(layer.keys, layer.values) for layer in cache.layers]

    def _logs(self, hidden: torch.Tensor, tokens: list[int]) -> torch.Tensor:
        """log P(token) at each position, in float32."""
        wanted = torch.tensor(tokens, device=hidden.device)
        parts = []
        for rows, ids in zip(hidden.split(VOCABULARY_ROWS), wanted.split(VOCABULARY_ROWS), strict=True):
            logits = self.model.lm_head(rows).float()
            parts.append(logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(1))
        return torch.cat(parts).cpu()

    # ── kept contexts ───────────────────────────────────────────────────────────────────────────────────────────────

    def _longest(self, context: Sequence[str]) -> tuple[_Kept | None, int]:
        """What is kept of the longest beginning of a context, and its tokens. Contexts grow by whole pieces."""
        ends: list[tuple[int, ...]] = []
        path: tuple[int, ...] = ()
        for piece in context:
            path += self.tokens(piece)
            ends.append(path)
        for end in reversed(ends):
            if end in self.kept:
                self.kept.move_to_end(end)
                return self.kept[end], len(end)
        return None, 0

    def _keep(
        self,
        path: list[int],
        known: int,
        tree: _Tree,
        kept: _Kept | None,
        hidden: torch.Tensor,
        layers: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        """The path's new nodes are the tree's first: it was grown before anything else."""
        size, new = len(path), len(path) - known
        whole = torch.cat([kept.hidden[:known], hidden[:new]]) if kept else hidden[:new]
        entry = _Kept([(key[:, :, :size].clone(), value[:, :, :size].clone()) for key, value in layers], whole.clone())
        if kept is not None:
            self.held -= self.kept.pop(tuple(path[:known])).size
        self.kept[tuple(path)] = entry
        self.held += entry.size
        while self.held > self.bound and self.kept:
            _, oldest = self.kept.popitem(last=False)
            self.held -= oldest.size


@dataclass
class _Tree:
    """Nodes 0 … known − 1 are the kept path; later ones are new. A node's parent comes before it; −1 is the root."""

    path: list[int]
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = len(self.path)
        self.children = {(place - 1, token): place for place, token in enumerate(self.path)}

    def child(self, node: int, token: int) -> int:
        found = self.children.get((node, token))
        if found is None:
            found = self.known + len(self.tokens)
            self.children[node, token] = found
            self.tokens.append(token)
            self.parents.append(node)
            self.depths.append(self._depth(node) + 1)
        return found

    def grow(self, tokens: Sequence[int]) -> int:
        """The last node of a path from the root."""
        node = -1
        for token in tokens:
            node = self.child(node, token)
        return node

    def _depth(self, node: int) -> int:
        return node if node < self.known else self.depths[node - self.known]

    def mask(self) -> npt.NDArray[np.bool_]:
        """[new, known + new]: what each new node sees."""
        seen = np.zeros((len(self.tokens), self.known + len(self.tokens)), dtype=np.bool_)
        for row, parent in enumerate(self.parents):
            if parent >= self.known:
                seen[row] = seen[parent - self.known]
            else:
                seen[row, : parent + 1] = True
            seen[row, self.known + row] = True
        return seen


def _load(folder: Path) -> Any:
    """The weights, in whichever of bfloat16 and float32 reads a prompt faster on this machine; on a GPU if there is one."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.__dict__.pop("quantization_config", None)
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    for name in [name for name in weights if name.endswith("_scale")]:
        scale = weights.pop(name)
        weights[name.removesuffix("_scale")] = (weights[name.removesuffix("_scale")].float() * scale).to(torch.bfloat16)
    kind = getattr(transformers, config.architectures[0])
    model = kind.from_pretrained(None, config=config, state_dict=weights, dtype=torch.bfloat16)
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    if model.device.type == "cuda":
        return model
    small = _seconds(model)
    model = model.float()
    return model if _seconds(model) < small else model.bfloat16()


@torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is not type-checked here
def _seconds(model: Any) -> float:
    """The faster of two passes over 128 tokens, after one to warm up."""
    tokens = torch.arange(128)[None]
    times = []
    for _ in range(3):
        start = perf_counter()
        model.model(input_ids=tokens, use_cache=False)
        times.append(perf_counter() - start)
    return min(times[1:])
