"""Scores texts by weights in this process, with torch: many texts in one forward pass.

Contexts and texts form one tree of tokens. What they share is computed once; a mask lets each token
see its own ancestors only; its position is its depth. The keys and values of the first context are
kept, so that the same context costs nothing the next time, and a longer one only what is new.

The shape of a pass decides how its numbers are rounded: in bfloat16 the sum over a title moves by
0.1 nats with what else is in the pass. `score_apart` gives every text a pass that nothing else
shapes.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

# set before torch is imported: waiting threads would take the cores of an engine beside us
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional

from service.llm import Likelihoods, OutgoingAsked
from service.schema import Usage

LARGEST = 1_024
"""How many new tokens a pass may have, beyond its first text; more texts go to the next pass."""
STEP = 16
"""Passes are padded to a multiple of so many tokens: for every new shape torch prepares its kernels
anew, which takes as long as a pass."""
VOCABULARY_ROWS = 256
"""For how many positions the distribution over the vocabulary is in memory at a time."""

_LOADING = Lock()
"""Loading sets torch's default dtype for the whole process, so only one model loads at a time."""

Layers = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass
class _KeptContext:
    """What is kept of a context: keys and values of each layer, [heads, tokens, width], and last
    hidden states, [tokens, width]."""

    layers: Layers
    hidden: torch.Tensor

    @property
    def size(self) -> int:
        """Size in bytes."""
        return sum(
            tensor.numel() * tensor.element_size()
            for tensor in (self.hidden, *chain.from_iterable(self.layers))
        )


class PackedModel:
    """A decoder, its tokenizer, and the contexts that it keeps: at most `bound` bytes."""

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
        """Scores texts, as many in one pass as fit. Keeps the first context for later calls."""
        values: list[float] = []
        usage = Usage()
        while len(values) < len(asked):
            scored, cost = self._pass(asked[0].context, asked[len(values) :])
            values += scored
            usage += cost
        return Likelihoods(values, usage)

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is not type-checked here
    def _pass(
        self, context: Sequence[str], asked: list[OutgoingAsked]
    ) -> tuple[list[float], Usage]:
        """Scores the first of `asked`, as many as fit into one pass. Returns their log-likelihoods
        and the tokens used. `context`: the context to keep, whether or not these questions ask
        about it."""
        path = self._path(context)
        kept, known = self._longest(context)
        tree = _Tree()
        tree.grow(path[:known])
        tree.known = known
        end = tree.grow(path)
        targets: list[Steps] = []
        for question in asked:
            text = self.tokens(question.text)
            if targets and tree.new + len(text) > LARGEST:
                break
            targets.append(tree.steps(tree.grow(self._path(question.context)), text))
        hidden, layers = self._forward(tree, kept.layers if kept else [])
        if end >= known:
            self._keep(path, known, kept, hidden, layers)
        values = self._values(torch.cat([kept.hidden[:known], hidden]) if kept else hidden, targets)
        return values, Usage(prompt_tokens=tree.size, total_tokens=tree.size, cached_tokens=known)

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is not type-checked here
    def score_apart(self, asked: list[OutgoingAsked]) -> Likelihoods:
        """Computes the contexts, then scores each text in a pass of its own, after all contexts
        that it is asked with. Kept contexts are not used: the last bits of a number depend on the
        shape of the pass that it was computed in."""
        tree, layers, parts = _Tree(), Layers(), list[torch.Tensor]()
        contexts = list(dict.fromkeys(question.context for question in asked))
        for context in contexts:
            tree.grow(self._path(context))
            if tree.new > LARGEST or context == contexts[-1]:
                hidden, layers = self._forward(tree, layers)
                parts.append(hidden)
                tree.known = tree.size
        read, values = tree.size, dict[OutgoingAsked, float]()
        for text in dict.fromkeys(question.text for question in asked):
            questions = [question for question in asked if question.text == text]
            branch = tree.branch()
            targets = [
                branch.steps(branch.grow(self._path(question.context)), self.tokens(text))
                for question in questions
            ]
            hidden, _ = self._forward(branch, layers)
            scored = self._values(torch.cat([*parts, hidden]), targets)
            values.update(zip(questions, scored, strict=True))
            read += branch.new
        return Likelihoods(
            [values[question] for question in asked], Usage(prompt_tokens=read, total_tokens=read)
        )

    def _path(self, context: Sequence[str]) -> list[int]:
        """A context's tokens. Each piece is tokenized alone, so that longer contexts begin with the
        same ones."""
        return [token for piece in context for token in self.tokens(piece)]

    def _values(self, hidden: torch.Tensor, targets: Sequence[Steps]) -> list[float]:
        """log P of each text. `hidden`: last hidden states of all nodes."""
        flat = [step for steps in targets for step in steps]
        logs = self._logs(hidden[[node for node, _ in flat]], [token for _, token in flat])
        return [float(text.sum()) for text in logs.split([len(steps) for steps in targets])]

    def _forward(self, tree: _Tree, past: Layers) -> tuple[torch.Tensor, Layers]:
        """Returns the last hidden states of the new nodes, and the keys and values of known and new
        nodes. `past`: keys and values of at least the known nodes."""
        new, device, dtype = tree.new, self.model.device, self.model.dtype
        if not new:
            return torch.empty(0, self.model.width, dtype=dtype, device=device), past
        padding = [0] * (-new % STEP)
        seen = tree.mask(new + len(padding)).to(device)
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
        """log P(token) at each position, in float32. `hidden`: [n, width], `tokens`: n."""
        padding = -len(tokens) % STEP
        states = functional.pad(hidden, (0, 0, 0, padding)).split(VOCABULARY_ROWS)
        wanted = torch.tensor(tokens + [0] * padding, device=hidden.device).split(VOCABULARY_ROWS)
        parts = []
        for rows, ids in zip(states, wanted, strict=True):
            logits = self.model.logits(rows)
            parts.append(logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(1))
        return torch.cat(parts)[: len(tokens)].cpu()

    # ── kept contexts ─────────────────────────────────────────────────────────────────────────────

    def _longest(self, context: Sequence[str]) -> tuple[_KeptContext | None, int]:
        """Returns the longest kept beginning of a context, in whole pieces, and how many tokens it
        has; (None, 0) if there is none."""
        for end in reversed([*accumulate(map(self.tokens, context))]):
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
        """Keeps a context, in place of its beginning `kept` of `known` tokens, and drops the oldest
        ones beyond the bound.

        The first of the new `hidden` states are the path's: the tree was grown along it first.
        """
        size = len(path)
        states = hidden[: size - known]
        entry = _KeptContext(
            [(key[:, :size].clone(), value[:, :size].clone()) for key, value in layers],
            torch.cat([kept.hidden[:known], states]) if kept else states.clone(),
        )
        if kept is not None:
            self.held -= self.kept.pop(tuple(path[:known])).size
        self.kept[tuple(path)] = entry
        self.held += entry.size
        while self.held > self.bound and self.kept:
            self.held -= self.kept.popitem(last=False)[1].size


Steps = list[tuple[int, int]]
"""A text's tokens, as pairs: (the node that the token follows, token)."""


@dataclass
class _Tree:
    """A tree of tokens. Nodes are numbered, a parent before its children; −1 is the root. The keys
    and values of the first `known` nodes are computed already."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)
    known: int = 0

    def branch(self) -> _Tree:
        """Returns a copy that grows independently."""
        return _Tree([*self.tokens], [*self.parents], [*self.depths], {**self.children}, self.known)

    @property
    def size(self) -> int:
        return len(self.tokens)

    @property
    def new(self) -> int:
        """How many nodes have no keys and values yet."""
        return self.size - self.known

    def child(self, node: int, token: int) -> int:
        """Returns the child of a node with this token; makes it if there is none."""
        child = self.children.get((node, token))
        if child is None:
            child = self.children[node, token] = self.size
            self.tokens.append(token)
            self.parents.append(node)
            self.depths.append(self.depths[node] + 1 if node >= 0 else 0)
        return child

    def grow(self, tokens: Sequence[int]) -> int:
        """Returns the last node of the path of `tokens` from the root; makes the nodes that are
        missing."""
        node = -1
        for token in tokens:
            node = self.child(node, token)
        return node

    def steps(self, node: int, text: Sequence[int]) -> Steps:
        """Returns the steps of a text after a node, and makes their nodes. The text's last token
        gets no node: nothing follows it."""
        steps = []
        for token in text[:-1]:
            steps.append((node, token))
            node = self.child(node, token)
        return [*steps, (node, text[-1])]

    def mask(self, rows: int) -> torch.Tensor:
        """[rows, known + rows]: which nodes each new node sees: its ancestors and itself. Rows of
        padding see themselves only."""
        seen = np.eye(rows, self.known + rows, self.known, dtype=np.bool_)
        for row, node in enumerate(self.parents[self.known :]):
            if node >= self.known:
                seen[row] |= seen[node - self.known]
            else:
                seen[row, self._ancestry(node)] = True
        return torch.from_numpy(seen)

    def _ancestry(self, node: int) -> list[int]:
        """A node and all its ancestors."""
        nodes = []
        while node >= 0:
            nodes.append(node)
            node = self.parents[node]
        return nodes


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


class _Decoder:
    """A decoder of the Llama shape (Llama, Mistral, Qwen2, SmolLM2) as one function of tensors
    without a batch dimension, which takes half the time of transformers' classes at these sizes.
    Weights that are used together are joined, and packed for this CPU."""

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
        """Last hidden states, [n, width], and keys and values of all nodes.

        `tokens`, `positions`: [n]; `mask`: [n, known + n], added to the attention scores; `past`:
        keys and values of the known nodes.
        """
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
        """Scores of the next token: [n, vocabulary], float32."""
        return self._head(hidden).float()

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, x.shape[-1:], weight, self._eps)


def _linear(*parts: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """One function for several linear layers of the same input: their outputs side by side."""
    weight = torch.cat([part.weight.detach() for part in parts])
    bias = torch.cat([part.bias.detach() for part in parts]) if parts[0].bias is not None else None
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16:
        # otherwise the weight would be reordered at every call
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, STEP)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return lambda x: functional.linear(x, weight, bias)


SHAPES = ("llama", "mistral", "qwen2")
"""Model types whose layers `_Decoder` computes."""


def _load(folder: Path) -> _Decoder:
    """Loads the weights, onto a GPU if there is one. Their dtype is bfloat16 or float32, whichever
    reads a prompt faster on this machine."""
    config = transformers.AutoConfig.from_pretrained(folder)
    if config.model_type not in SHAPES:
        raise ValueError(f"a {config.model_type}; in process run {', '.join(SHAPES)}")
    config.__dict__.pop("quantization_config", None)
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    for name in [name for name in weights if name.endswith("_scale")]:
        scaled = name.removesuffix("_scale")
        weights[scaled] = (weights[scaled].float() * weights.pop(name)).to(torch.bfloat16)
    transformers.utils.logging.disable_progress_bar()
    kind = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    dtype = torch.bfloat16 if torch.cuda.is_available() else _faster(kind, config)
    model = kind.from_pretrained(None, config=config, state_dict=weights, dtype=dtype).eval()
    return _Decoder(model.to("cuda") if torch.cuda.is_available() else model)


@torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is not type-checked here
def _faster(kind: Any, config: Any) -> Any:
    """The faster of bfloat16 and float32: by the fastest of a few passes of 128 tokens through two
    layers of the model's widths. The passes take turns, so that a busy machine slows both. float32
    where the processor lacks what bfloat16 needs (AVX-512)."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32
    small = deepcopy(config)
    small.num_hidden_layers, small.vocab_size, small.pad_token_id = 2, 256, None
    model, tokens = kind(small).eval(), torch.arange(128)
    models = {
        dtype: _Decoder(deepcopy(model).to(dtype)) for dtype in (torch.bfloat16, torch.float32)
    }
    best = dict.fromkeys(models, math.inf)
    for _ in range(8):
        for dtype, decoder in models.items():
            start = perf_counter()
            decoder(tokens, tokens, torch.zeros(128, 128, dtype=dtype), [])
            best[dtype] = min(best[dtype], perf_counter() - start)
    return min(best, key=lambda dtype: best[dtype])
