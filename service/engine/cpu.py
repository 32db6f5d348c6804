"""What this CPU is fast in: decides the number formats of the local engine."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def dtype(cpuinfo: Path = CPUINFO) -> list[str]:
    """vLLM's flag for activations: where bfloat16 is emulated, float32 reads a prompt six times as
    fast. [] if unknown."""
    if not cpuinfo.exists():
        return []
    return [
        "--dtype=bfloat16"
        if {"avx512_bf16", "amx_bf16", "bf16"} & _flags(cpuinfo)
        else "--dtype=float32"
    ]


def int8(cpuinfo: Path = CPUINFO) -> bool:
    """Do integer dot products have an instruction? Without one, int8 weights write a third as fast
    as floats, batched less."""
    return not cpuinfo.exists() or bool(
        {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"} & _flags(cpuinfo)
    )


def _flags(cpuinfo: Path) -> set[str]:
    return set(cpuinfo.read_text().split())
