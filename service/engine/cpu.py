"""Chooses the number formats of the local engine by what this CPU is fast in."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def dtype(cpuinfo: Path = CPUINFO) -> list[str]:
    """vLLM's flag for the type of activations; [] if the CPU is unknown. Where bfloat16 is
    emulated, float32 reads a prompt six times as fast."""
    if not cpuinfo.exists():
        return []
    has_bfloat16 = {"avx512_bf16", "amx_bf16", "bf16"} & _flags(cpuinfo)
    return ["--dtype=bfloat16" if has_bfloat16 else "--dtype=float32"]


def int8(cpuinfo: Path = CPUINFO) -> bool:
    """Has the CPU an instruction for integer dot products, or is it unknown? Without one, int8
    weights generate a third as fast as floats, and slower yet in batches."""
    return not cpuinfo.exists() or bool(
        {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"} & _flags(cpuinfo)
    )


def _flags(cpuinfo: Path) -> set[str]:
    return set(cpuinfo.read_text().split())
