"""Finds what is wrong with an installation. Every part is opened by itself, so that one broken part
does not hide another."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

from service.config import HOUSE, Settings
from service.pipeline import build, embedder_of, open_catalog, open_store, part
from service.prompts import PromptLibrary

LONGEST_S = 600
"""The time limit of a part: a large database is read whole."""
MODEL_S = 60


async def diagnose(settings: Settings) -> dict[str, dict[str, Any]]:
    """The state of each part by name, as `Recommender.readiness` gives it, and of the files that a
    start reads. Models are tried only if everything else works."""
    checks = {
        "fitted weights": _fitted(settings),
        "prompts": _prompts(),
        "store": _store(settings),
        "embedder": _embedder(settings),
    }
    parts = {name: await part(check, LONGEST_S) for name, check in checks.items()}
    if parts["embedder"]["ok"]:
        parts["catalog"] = await part(_catalog(settings), LONGEST_S)
    if all(state["ok"] for state in parts.values()):
        whole = await part(_whole(settings), LONGEST_S)
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
    embed = await embedder_of(settings)
    await embed.embed_one("a text")
    return {"name": embed.name}


async def _catalog(settings: Settings) -> dict[str, Any]:
    catalog = await open_catalog(settings, await embedder_of(settings))
    await catalog.examine_all()
    return {}


async def _whole(settings: Settings) -> dict[str, Any]:
    recommender = await build(settings)
    try:
        return {"parts": await recommender.readiness(MODEL_S)}
    finally:
        await recommender.close()
