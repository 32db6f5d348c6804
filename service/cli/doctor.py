"""`whyrank doctor`: what is wrong with an installation, and what to do."""

import asyncio
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from service.cli.shell import console
from service.config import Settings

OK, NO = "[green]ok[/]", "[red]no[/]"


def doctor(context: typer.Context) -> None:
    """Check every part, and say what to do about what is wrong. Exit code 1 if something is."""
    from service.doctor import diagnose

    settings: Settings = context.obj
    table = Table("part", "", "")
    alone = "" if settings.models else ", no models: the prior ranks alone"
    table.add_row(
        "configuration",
        OK,
        escape(f"domain {settings.service.domain}, data in {settings.data}{alone}"),
    )
    parts = _check_weights(settings) | asyncio.run(diagnose(settings))
    for name, part in parts.items():
        table.add_row(
            escape(name), OK if part["ok"] else NO, escape(_describe(settings, name, part))
        )
    console.print(table)
    if not all(part["ok"] for part in parts.values()):
        raise typer.Exit(1)


def _check_weights(settings: Settings) -> dict[str, dict[str, Any]]:
    """Whether the weights of the local engine's model are here; empty without a local engine."""
    alias = settings.served
    if alias not in settings.models or settings.models[alias].backend != "vllm":
        return {}
    path, model = settings.weights_path(alias), settings.models[alias].model
    if path.exists():
        return {"weights": {"ok": True, "folder": path}}
    if "/" in model:
        return {"weights": {"ok": True, "hub": f"vLLM fetches {model} itself"}}
    return {"weights": {"ok": False, "why": f"not here: whyrank models pull {alias}"}}


def _describe(settings: Settings, name: str, part: dict[str, Any]) -> str:
    """What a part reports of itself, and if it is not ready why, and what to do."""
    facts = ", ".join(
        f"{key} {value}" for key, value in part.items() if key not in {"ok", "why", "capabilities"}
    )
    if part["ok"]:
        return facts
    is_engine = name.startswith("model:") and settings.models[part["alias"]].backend == "vllm"
    cure = "; 'whyrank up' starts the engine" if is_engine else ""
    return f"{facts}: {part['why']}{cure}" if facts else f"{part['why']}{cure}"
