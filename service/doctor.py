"""Finds what is wrong with an installation. Every part is opened by itself, so that one broken part
does not hide another."""

import asyncio
from contextlib import closing
from typing import Any

from service.build import build, open_catalog, open_embedder, open_store
from service.config import HOUSE, Settings
from service.diagnostics import read_part
from service.prompts import PromptLibrary

LONGEST_S = 600
"""The time limit of a part: a large database is read whole."""
MODEL_S = 60


async def diagnose(settings: Settings) -> dict[str, dict[str, Any]]:
    """The state of each part by name, as `Diagnostics.readiness` gives it, and of the files that a
    start reads. Models are tried only if everything else works."""
    checks = {
        "fitted weights": _fitted(settings),
        "prompts": _prompts(),
        "store": _store(settings),
        "embedder": _embedder(settings),
    }
    parts = {name: await read_part(check, LONGEST_S) for name, check in checks.items()}
    if parts["embedder"]["ok"]:
        parts["catalog"] = await read_part(_catalog(settings), LONGEST_S)
    if all(state["ok"] for state in parts.values()):
        whole = await read_part(_whole(settings), LONGEST_S)
        parts |= whole["parts"] if whole["ok"] else {"service": whole}
    return parts


async def _fitted(settings: Settings) -> dict[str, Any]:
    return {"files": len(settings.fitted())}


async def _prompts() -> dict[str, Any]:
    return {"files": len(PromptLibrary(HOUSE / "prompts").all())}


async def _store(settings: Settings) -> dict[str, Any]:
    with closing(await asyncio.to_thread(open_store, settings)) as store:
        await asyncio.to_thread(store.check_all)
    return {}


async def _embedder(settings: Settings) -> dict[str, Any]:
    embed = await open_embedder(settings)
    await embed.embed_one("a text")
    return {"name": embed.name}


async def _catalog(settings: Settings) -> dict[str, Any]:
    catalog = await open_catalog(settings, await open_embedder(settings))
    await catalog.health.examine_all()
    return {}


async def _whole(settings: Settings) -> dict[str, Any]:
    service = await build(settings)
    try:
        return {"parts": await service.diagnostics.readiness(MODEL_S)}
    finally:
        await service.close()
