"""`whyrank doctor`: what is wrong with an installation, and what to do. Every part is opened by
itself, so that one broken part does not hide another."""

import asyncio
from contextlib import closing

import typer
from rich.markup import escape
from rich.table import Table

from service.build import build, open_catalog, open_embedder, open_store
from service.cli.shell import console
from service.config import HOUSE, Settings
from service.diagnostics import Part, read_part
from service.prompts import PromptLibrary

LONGEST_S = 600
"""The time limit of a part: a large database is read whole."""
MODEL_S = 60
OK, NO = "[green]ok[/]", "[red]no[/]"


def doctor(context: typer.Context) -> None:
    """Check every part, and say what to do about what is wrong. Exit code 1 if something is."""
    settings: Settings = context.obj
    table = Table("part", "", "")
    alone = "" if settings.models else ", no models: the prior ranks alone"
    table.add_row(
        "configuration",
        OK,
        escape(f"domain {settings.service.domain}, data in {settings.data}{alone}"),
    )
    parts = _check_weights(settings) | asyncio.run(_diagnose(settings))
    for name, part in parts.items():
        table.add_row(
            escape(name), OK if part["ok"] else NO, escape(_describe(settings, name, part))
        )
    console.print(table)
    if not all(part["ok"] for part in parts.values()):
        raise typer.Exit(1)


def _check_weights(settings: Settings) -> dict[str, Part]:
    """Returns the state of the part `weights`: whether the weights of the local engine's model are
    on this machine or can be fetched by vLLM. Returns {} without a local engine."""
    alias = settings.served
    if alias not in settings.models or settings.models[alias].backend != "vllm":
        return {}
    path, model = settings.weights_path(alias), settings.models[alias].model
    if path.exists():
        return {"weights": {"ok": True, "folder": path}}
    if "/" in model:
        return {"weights": {"ok": True, "hub": f"vLLM fetches {model} itself"}}
    return {"weights": {"ok": False, "why": f"not here: whyrank models pull {alias}"}}


async def _diagnose(settings: Settings) -> dict[str, Part]:
    """The state of each part by name, as `Diagnostics.readiness` gives it, and of the files that a
    start reads. Models are tried only if everything else works."""
    checks = {
        "fitted weights": asyncio.to_thread(lambda: {"files": len(settings.fitted())}),
        "prompts": asyncio.to_thread(
            lambda: {"files": len(PromptLibrary(HOUSE / "prompts").all())}
        ),
        "store": asyncio.to_thread(_check_store, settings),
        "embedder": _check_embedder(settings),
    }
    parts = {name: await read_part(check, LONGEST_S) for name, check in checks.items()}
    if parts["embedder"]["ok"]:
        parts["catalog"] = await read_part(_check_catalog(settings), LONGEST_S)
    if all(state["ok"] for state in parts.values()):
        whole = await read_part(_check_all(settings), LONGEST_S)
        parts |= whole["parts"] if whole["ok"] else {"service": whole}
    return parts


def _check_store(settings: Settings) -> Part:
    with closing(open_store(settings)) as store:
        store.check_all()
    return {}


async def _check_embedder(settings: Settings) -> Part:
    embed = await open_embedder(settings)
    await embed.embed_one("a text")
    return {"name": embed.name}


async def _check_catalog(settings: Settings) -> Part:
    catalog = await open_catalog(settings, await open_embedder(settings))
    await catalog.health.examine_all()
    return {}


async def _check_all(settings: Settings) -> Part:
    service = await build(settings)
    try:
        return {"parts": await service.diagnostics.readiness(MODEL_S)}
    finally:
        await service.close()


def _describe(settings: Settings, name: str, part: Part) -> str:
    """Returns a part's figures as text; if the part is not ready, also why, and what to do."""
    facts = ", ".join(
        f"{key} {value}" for key, value in part.items() if key not in {"ok", "why", "capabilities"}
    )
    if part["ok"]:
        return facts
    is_engine = name.startswith("model:") and settings.models[part["alias"]].backend == "vllm"
    cure = "; 'whyrank up' starts the engine" if is_engine else ""
    return f"{facts}: {part['why']}{cure}" if facts else f"{part['why']}{cure}"
