"""Converts weights into the form that the engine reads:
`python -m service.engine.convert gguf|onnx RAW OUT [int8]`.

It runs as a program of its own, as it needs torch and transformers.
"""

import json
import shutil
import sys
from pathlib import Path

import onnxruntime
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, GgufConfig

W8A8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "channel",
                "dynamic": False,
            },
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}


def gguf(raw: Path, out: Path, *, int8: bool) -> None:
    """Writes `weights.gguf` of the folder `raw` into `out` as safetensors in bfloat16, the linear
    layers in int8 if asked, with its tokenizer and chat template."""
    name = "weights.gguf"
    model = AutoModelForCausalLM.from_pretrained(
        raw, gguf_file=name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    AutoTokenizer.from_pretrained(raw, gguf_file=name).save_pretrained(out)
    if not int8:
        model.save_pretrained(out)
        return
    model.config.save_pretrained(out)
    model.generation_config.save_pretrained(out)
    tensors = {}
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if ".layers." in key and weight.ndim == 2:
            # symmetric, one scale an output channel: absmax / 127
            scale = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
            tensors[key] = (weight.float() / scale).round().clamp(-127, 127).to(torch.int8)
            tensors[f"{key}_scale"] = scale
        else:
            tensors[key] = weight.contiguous()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"quantization_config": W8A8}, indent=2))


def onnx(raw: Path, out: Path) -> None:
    """Writes a sentence transformer's encoder as `model.onnx`, from token ids [batch, tokens] to
    hidden states [batch, tokens, dimension], with its tokenizer."""
    encoder = AutoModel.from_pretrained(raw, attn_implementation="eager").eval()

    class Hidden(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked here
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = encoder(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state
            return hidden

    ids = torch.randint(1_000, 20_000, (2, 8), generator=torch.Generator().manual_seed(0))
    free = {
        0: torch.export.Dim("batch", min=1, max=4_096),
        1: torch.export.Dim("tokens", min=1, max=512),
    }
    torch.onnx.export(
        Hidden().eval(),
        (ids, torch.ones(2, 8, dtype=torch.int64)),
        str(out / "model.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_shapes={"input_ids": free, "attention_mask": free},
        external_data=False,
        dynamo=True,
    )
    _check_export(encoder, out / "model.onnx")
    shutil.copy(raw / "tokenizer.json", out)


def _check_export(encoder: torch.nn.Module, exported: Path) -> None:
    """Raises `ValueError` if the exported encoder gives other hidden states than the original for
    texts of unequal length. An export that ignores an input or pads wrongly would otherwise be
    noticed only by its rankings."""
    ids = torch.randint(1_000, 20_000, (3, 11), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(11) < torch.tensor([[11], [4], [7]])).long()
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    hidden = torch.from_numpy(
        session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    )
    difference = ((hidden - expected) * mask[:, :, None]).abs().max().item()
    if difference > 1e-3:
        raise ValueError(f"the exported encoder differs from the original by {difference:.3g}")


if __name__ == "__main__":
    kind, source, target, *rest = sys.argv[1:]
    if kind == "gguf":
        gguf(Path(source), Path(target), int8="int8" in rest)
    else:
        onnx(Path(source), Path(target))
