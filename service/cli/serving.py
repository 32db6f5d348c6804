"""`whyrank engine`, `serve` and `up`: the local engine and the HTTP service."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from service.build import Service, build
from service.cli.shell import console, errors
from service.config import Settings
from service.errors import ConfigError, WhyrankError


def engine(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Stop when this command, which needs the engine, ends."),
    ] = None,
) -> None:
    """Start the local language model server and keep it until Ctrl-C, or for as long as a command
    runs.

    whyrank engine whyrank eval run suite.yaml --out results
    """
    if command and shutil.which(command[0]) is None:
        raise typer.BadParameter(f"no such command: {command[0]}")
    with until_stopped(), running_engine(context.obj) as process:
        if command:
            raise typer.Exit(subprocess.run(command, check=False).returncode)
        code = process.wait()
        errors.print(f"[red]the engine stopped with code {code}[/]")
        raise typer.Exit(1)


def serve(context: typer.Context) -> None:
    """Start the HTTP service; the engine may run elsewhere, or not at all (then the prior
    ranks)."""
    with until_stopped():
        _serve(context.obj)


def up(context: typer.Context) -> None:
    """Engine and service together; Ctrl-C stops both."""
    with until_stopped(), running_engine(context.obj):
        _serve(context.obj)


@contextmanager
def running_engine(settings: Settings) -> Iterator[Any]:
    """The process of the local engine, ready to answer; it is stopped when the block ends."""
    from service.engine import server

    alias, model = server.served(settings)
    with console.status(f"starting vLLM with {alias} …") as status:
        running = server.running(
            settings, lambda seconds: status.update(f"starting vLLM with {alias} … {seconds:.0f} s")
        )
        process = running.__enter__()  # no `with`: the status line has to end before the engine
    console.print(f"vLLM serves {alias} at {model.base_url} (log: {settings.data / 'engine.log'})")
    try:
        yield process
    finally:
        with console.status("stopping vLLM …"):
            running.__exit__(None, None, None)


@contextmanager
def until_stopped() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what the block started is stopped with it."""
    previous_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _serve(settings: Settings) -> None:
    """Serves until it is stopped. If it can't start, logs the error and exits with 1."""
    from service.telemetry import Telemetry, json_logs

    with json_logs():
        try:
            _listen(settings)
        except WhyrankError as error:
            Telemetry().log.error("not_started", code=error.code, error=error.message)
            raise typer.Exit(1) from error


def _listen(settings: Settings) -> None:
    import uvicorn

    from service.api import create_app

    async def take_prepared(_settings: Settings) -> Service:
        return prepared

    service = settings.service
    config = uvicorn.Config(
        create_app(settings, take_prepared),
        host=service.host,
        port=service.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(service.deadline_ms / 1000) + 5,
    )
    server = uvicorn.Server(config)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        # before uvicorn starts, which would log a known error with its trace
        prepared = runner.run(_build_prepared(settings))
        console.print(
            f"whyrank on http://{service.host}:{service.port}  (API: /docs, readiness: /readyz)"
        )
        runner.run(server.serve())
    if not server.started:
        raise ConfigError(f"the service could not start on {service.host}:{service.port}")


async def _build_prepared(settings: Settings) -> Service:
    """Builds a service, checks its store and catalogue, and loads what the first requests need."""
    service = await build(settings)
    try:
        await service.diagnostics.prepare()
    except WhyrankError:
        await service.close()
        raise
    return service
