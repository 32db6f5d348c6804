"""How likely texts are by weights in this process, by torch: all of them in one forward pass.

Contexts and texts are laid out as one tree of tokens: what they share is computed once, each token
sees its own ancestors only (a mask), and its position is its depth. The keys and values of the
first context are kept, so that the same context costs nothing the next time, and a longer one only
what is new.

What is computed in one pass is rounded by its shape: in bfloat16 a sum over a title moves by 0.1
nats with what else is in the pass. `score_apart` gives every text a pass that nothing else shapes.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault(
    "OMP_WAIT_POLICY", "passive"
)  # before torch: waiting threads would take an engine's cores

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional

from service.errors import InvalidOutput
from service.llm import Likelihoods, OutgoingAsked
from service.schema import Usage

LARGEST = 1_024
"""So many new tokens a pass, at least one text; more texts are passed on to the next."""
STEP = 16
"""Passes are filled up to a multiple of so many tokens: for every new shape torch makes its kernels
anew, at the cost of a pass."""
VOCABULARY_ROWS = 256
"""Positions whose distribution over the vocabulary is held in memory at a time."""


_LOADING = Lock()
"""Loading sets torch's default type of numbers, which a process has one of: two at once would mix
theirs."""

Layers = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass
class _KeptContext:
    """A context's keys and values ([heads, tokens, width] a layer) and last hidden states ([tokens,
    width])."""

    layers: Layers
    hidden: torch.Tensor

    @property
    def size(self) -> int:
        tensors = [self.hidden, *(part for layer in self.layers for part in layer)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class PackedModel:
    """`bound`: bytes of kept contexts."""

    def __init__(self, folder: Path, bound: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokens = lru_cache(maxsize=65_536)(self._tokens)
        with _LOADING:
            self.model = _load(folder)
        self.kept: OrderedDict[tuple[int, ...], _KeptContext] = OrderedDict()
        self.bound = bound
        self.held = 0

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def score(self, asked: list[OutgoingAsked]) -> Likelihoods:
        """As many together as fit; the first context is kept."""
        _check(asked)
        values: list[float] = []
        usage = Usage()
        while len(values) < len(asked):
            found, cost = self._pass(asked[0].context, asked[len(values) :])
            values += found
            usage += cost
        return Likelihoods(values, usage)

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is not type-checked here
    def _pass(
        self, context: Sequence[str], asked: list[OutgoingAsked]
    ) -> tuple[list[float], Usage]:
        """The first of `asked`, as many as fit into one pass. `context`: the one that is kept,
        whichever of them it is of."""
        path = self._path(context)
        kept, known = self._longest(context)
        tree = _Tree.known_path(path[:known])
        end = tree.grow(path)
        targets: list[Steps] = []
        for one in asked:
            text = self.tokens(one.text)
            if targets and tree.new + len(text) > LARGEST:
                break
            targets.append(tree.steps(tree.grow(self._path(one.context)), text))
        hidden, layers = self._forward(tree, kept.layers if kept else [])
        if end >= known:
            self._keep(path, known, kept, hidden, layers)
        values = self._values(torch.cat([kept.hidden[:known], hidden]) if kept else hidden, targets)
        return values, Usage(prompt_tokens=tree.size, total_tokens=tree.size, cached_tokens=known)

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is not type-checked here
    def score_apart(self, asked: list[OutgoingAsked]) -> Likelihoods:
        """First the contexts, then each text in a pass of its own, after all its contexts. What is
        kept takes no part: the last bits of a number depend on the shape of the pass that it was
        computed in."""
        _check(asked)
        tree, layers, parts = _Tree(), Layers(), list[torch.Tensor]()
        contexts = list(dict.fromkeys(one.context for one in asked))
        for context in contexts:
            tree.grow(self._path(context))
            if tree.new > LARGEST or context == contexts[-1]:
                hidden, layers = self._forward(tree, layers)
                parts.append(hidden)
                tree.known = tree.size
        read, values = tree.size, [0.0] * len(asked)
        for text in dict.fromkeys(one.text for one in asked):
            places = [place for place, one in enumerate(asked) if one.text == text]
            branch = tree.branch()
            targets = [
                branch.steps(branch.grow(self._path(asked[place].context)), self.tokens(text))
                for place in places
            ]
            hidden, _ = self._forward(branch, layers)
            for place, value in zip(
                places, self._values(torch.cat([*parts, hidden]), targets), strict=True
            ):
                values[place] = value
            read += branch.new
        return Likelihoods(values, Usage(prompt_tokens=read, total_tokens=read))

    def _path(self, context: Sequence[str]) -> list[int]:
        return [token for piece in context for token in self.tokens(piece)]

    def _values(self, hidden: torch.Tensor, targets: Sequence[Steps]) -> list[float]:
        """log P of each text, by the last hidden states of all nodes."""
        flat = [step for steps in targets for step in steps]
        logs = self._logs(hidden[[node for node, _ in flat]], [token for _, token in flat])
        cuts = np.cumsum([0, *(len(steps) for steps in targets)])
        return [float(logs[start:stop].sum()) for start, stop in pairwise(cuts)]

    def _forward(self, tree: _Tree, past: Layers) -> tuple[torch.Tensor, Layers]:
        """Last hidden states of the new nodes, and the keys and values of known and new ones."""
        new = tree.new
        if not new:
            return torch.empty(
                0, self.model.width, dtype=self.model.dtype, device=self.model.device
            ), past
        device, dtype = self.model.device, self.model.dtype
        seen = torch.from_numpy(tree.mask(_full(new))).to(device)
        padding = [0] * (_full(new) - new)
        hidden, layers = self.model(
            torch.tensor(tree.tokens[tree.known :] + padding, device=device),
            torch.tensor(tree.depths[tree.known :] + padding, device=device),
            torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(
                ~seen, torch.finfo(dtype).min
            ),
            [(key[:, : tree.known], value[:, : tree.known]) for key, value in past]
            if tree.known
            else [],
        )
        return hidden[:new], layers

    def _logs(self, hidden: torch.Tensor, tokens: list[int]) -> torch.Tensor:
        """log P(token) at each position, in float32."""
        count = len(tokens)
        wanted = torch.zeros(_full(count), dtype=torch.long)
        wanted[:count] = torch.tensor(tokens)
        states = functional.pad(hidden, (0, 0, 0, _full(count) - count))
        parts = []
        for rows, ids in zip(
            states.split(VOCABULARY_ROWS),
            wanted.to(hidden.device).split(VOCABULARY_ROWS),
            strict=True,
        ):
            logits = self.model.logits(rows)
            parts.append(logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(1))
        return torch.cat(parts)[:count].cpu()

    # ── kept contexts ─────────────────────────────────────────────────────────────────────────────

    def _longest(self, context: Sequence[str]) -> tuple[_KeptContext | None, int]:
        """What is kept of the longest beginning of a context, and its tokens. Contexts grow by
        whole pieces."""
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
        kept: _KeptContext | None,
        hidden: torch.Tensor,
        layers: Layers,
    ) -> None:
        """The path's new nodes are the tree's first: it was grown before anything else."""
        size, new = len(path), len(path) - known
        whole = torch.cat([kept.hidden[:known], hidden[:new]]) if kept else hidden[:new]
        entry = _KeptContext(
            [(key[:, :size].clone(), value[:, :size].clone()) for key, value in layers],
            whole.clone(),
        )
        if kept is not None:
            self.held -= self.kept.pop(tuple(path[:known])).size
        self.kept[tuple(path)] = entry
        self.held += entry.size
        while self.held > self.bound and self.kept:
            _, oldest = self.kept.popitem(last=False)
            self.held -= oldest.size


Steps = list[tuple[int, int]]
"""A text's tokens, each with the node that it comes after."""


@dataclass
class _Tree:
    """Tokens as nodes, a parent before its children; −1 is the root. Of the first `known`, keys and
    values are there."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)
    known: int = 0

    @classmethod
    def known_path(cls, path: Sequence[int]) -> _Tree:
        tree = cls()
        tree.grow(path)
        tree.known = tree.size
        return tree

    def branch(self) -> _Tree:
        """The same tree, to grow without it."""
        return _Tree([*self.tokens], [*self.parents], [*self.depths], {**self.children}, self.known)

    @property
    def size(self) -> int:
        return len(self.tokens)

    @property
    def new(self) -> int:
        return self.size - self.known

    def child(self, node: int, token: int) -> int:
        found = self.children.get((node, token))
        if found is None:
            found = self.children[node, token] = self.size
            self.tokens.append(token)
            self.parents.append(node)
            self.depths.append(self.depths[node] + 1 if node >= 0 else 0)
        return found

    def grow(self, tokens: Sequence[int]) -> int:
        """The last node of a path from the root."""
        node = -1
        for token in tokens:
            node = self.child(node, token)
        return node

    def steps(self, node: int, text: Sequence[int]) -> Steps:
        """A text after a node; of its last token no node is needed."""
        steps = []
        for place, token in enumerate(text):
            steps.append((node, token))
            node = self.child(node, token) if place + 1 < len(text) else node
        return steps

    def mask(self, rows: int) -> npt.NDArray[np.bool_]:
        """[rows, known + rows]: what each new node sees; those beyond the tree see themselves."""
        seen = np.eye(rows, self.known + rows, self.known, dtype=np.bool_)
        for row, parent in enumerate(self.parents[self.known :]):
            if parent >= self.known:
                seen[row] = seen[parent - self.known]
            else:
                seen[row, self._line(parent)] = True
            seen[row, self.known + row] = True
        return seen

    def _line(self, node: int) -> list[int]:
        """A node and those above it."""
        line = []
        while node >= 0:
            line.append(node)
            node = self.parents[node]
        return line


def _check(asked: Sequence[OutgoingAsked]) -> None:
    if not all(one.context and one.text for one in asked):
        raise InvalidOutput("a text and a context are needed to score one after the other")


def _full(count: int) -> int:
    return -(-count // STEP) * STEP


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


class _Decoder:
    """A decoder of the Llama shape (Llama, Mistral, Qwen2, SmolLM2) as one function of tensors
    without a batch dimension: half the time of the general classes at these sizes. Weights that are
    used together are joined, and packed for this CPU."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self.dtype, self.device, self.width = model.dtype, model.device, config.hidden_size
        self._heads, self._key_heads = config.num_attention_heads, config.num_key_value_heads
        self._eps = config.rms_norm_eps
        self._rotary, self._norm = model.model.rotary_emb, model.model.norm.weight
        self._embed = model.model.embed_tokens.weight
        self._head = _linear(model.lm_head)
        self._layers = [
            (
                layer.input_layernorm.weight,
                _linear(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                _linear(layer.self_attn.o_proj),
                layer.post_attention_layernorm.weight,
                _linear(layer.mlp.gate_proj, layer.mlp.up_proj),
                _linear(layer.mlp.down_proj),
            )
            for layer in model.model.layers
        ]

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, past: Layers
    ) -> tuple[torch.Tensor, Layers]:
        """`tokens`, `positions`: [n]; `mask`: [n, known + n], added to the scores; `past`: keys and
        values of the known."""
        x = functional.embedding(tokens, self._embed)
        cos, sin = self._rotary(x, positions[None])
        count, layers = len(tokens), []
        for n, (norm, attend, out, norm_after, gate, down) in enumerate(self._layers):
            heads = attend(self._normed(x, norm)).view(count, -1, cos.shape[-1]).transpose(0, 1)
            turned, value = heads.split([self._heads + self._key_heads, self._key_heads])
            left, right = turned.chunk(2, -1)
            query, key = (turned * cos + torch.cat((-right, left), -1) * sin).split(
                [self._heads, self._key_heads]
            )
            if past:
                key, value = torch.cat([past[n][0], key], 1), torch.cat([past[n][1], value], 1)
            layers.append((key, value))
            seen = functional.scaled_dot_product_attention(
                query[None], key[None], value[None], attn_mask=mask[None, None], enable_gqa=True
            )
            x = x + out(seen[0].transpose(0, 1).reshape(count, -1))
            open_, carried = gate(self._normed(x, norm_after)).chunk(2, -1)
            x = x + down(functional.silu(open_) * carried)
        return self._normed(x, self._norm), layers

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, vocabulary], float32."""
        return self._head(hidden).float()

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, x.shape[-1:], weight, self._eps)


def _linear(*parts: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """x ↦ the parts' outputs side by side."""
    weight = torch.cat([part.weight.detach() for part in parts])
    bias = torch.cat([part.bias.detach() for part in parts]) if parts[0].bias is not None else None
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16:
        packed = torch.ops.mkldnn._reorder_linear_weight(
            weight, STEP
        )  # else it is reordered at every call
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return lambda x: functional.linear(x, weight, bias)


SHAPES = ("llama", "mistral", "qwen2")


def _load(folder: Path) -> _Decoder:
    """The weights, in whichever of bfloat16 and float32 reads a prompt faster on this machine; on a
    GPU if there is one."""
    config = transformers.AutoConfig.from_pretrained(folder)
    if config.model_type not in SHAPES:
        raise ValueError(f"a {config.model_type}; in process run {', '.join(SHAPES)}")
    config.__dict__.pop("quantization_config", None)
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    for name in [name for name in weights if name.endswith("_scale")]:
        scale = weights.pop(name)
        weights[name.removesuffix("_scale")] = (
            weights[name.removesuffix("_scale")].float() * scale
        ).to(torch.bfloat16)
    transformers.utils.logging.disable_progress_bar()
    kind = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    dtype = torch.bfloat16 if torch.cuda.is_available() else _faster(kind, config)
    model = kind.from_pretrained(None, config=config, state_dict=weights, dtype=dtype).eval()
    return _Decoder(model.to("cuda") if torch.cuda.is_available() else model)


@torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is not type-checked here
def _faster(kind: Any, config: Any) -> Any:
    """Of bfloat16 and float32, by the fastest of a few passes of 128 tokens through two layers of
    the model's widths, taken in turns: a busy machine slows both."""
    small = deepcopy(config)
    small.num_hidden_layers, small.vocab_size, small.pad_token_id = 2, 256, None
    model, tokens = kind(small).eval(), torch.arange(128)
    models = {
        dtype: _Decoder(deepcopy(model).to(dtype)) for dtype in (torch.bfloat16, torch.float32)
    }
    best = dict.fromkeys(models, math.inf)
    for _ in range(8):
        for dtype, one in models.items():
            start = perf_counter()
            one(tokens, tokens, torch.zeros(128, 128, dtype=dtype), [])
            best[dtype] = min(best[dtype], perf_counter() - start)
    return min(best, key=lambda dtype: best[dtype])
