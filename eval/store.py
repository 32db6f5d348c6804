"""A case folder's own store: evaluation never touches the service's."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from eval.cases import Data
from service.build import Service
from service.config import Settings
from service.errors import BadRequest

Make = Callable[[Settings], Awaitable[Service]]
"""A function that makes a service from settings: `service.build.build`, in tests with something in
the place of models."""
BATCH = 2_000
"""Rows put into a store at a time."""


def housed(settings: Settings, data: Data, under: Path) -> Settings:
    """The settings with a store for this data in a folder of its own below `under`, paths to models
    and weights as they were, and no shadow model."""
    path = settings.embed.path
    return settings.changed(
        {
            "store": {"url": None},
            "data": str(under / f"{data.folder.name}-{_fingerprint(settings)}-{data.sha[:8]}"),
            "embed": {"path": path and str(path.resolve())},
            "models": {
                alias: {"path": str(settings.weights_path(alias).resolve())}
                for alias in settings.models
            },
            "rank": {"weights": str(settings.weights_folder.resolve())},
            "shadow": {"model": None},
        }
    )


def _fingerprint(settings: Settings) -> str:
    """A hash of the settings that decide what a store and its catalogue hold: runs that differ in
    them can't share a store."""
    retrieve = settings.retrieve
    parts = (
        settings.service.domain,
        settings.embed,
        settings.events,
        settings.catalog,
        retrieve.popular_half_life_days,
        retrieve.training,
    )
    return sha256(repr(parts).encode()).hexdigest()[:8]


async def fill(service: Service, data: Data, folder: Path) -> None:
    """Puts a case folder's items, users and events into the service's store, which is in
    `folder`; does nothing if that was done before. Raises `BadRequest` for a row that is refused.
    """
    stamp = folder / ".filled"
    if stamp.exists():
        return
    for put, nouns in (
        (service.ingest.items, data.items),
        (service.ingest.users, data.users),
        (service.ingest.events, data.events),
    ):
        for start in range(0, len(nouns), BATCH):
            report = await put(
                [noun.model_dump(mode="python") for noun in nouns[start : start + BATCH]]
            )
            if report.rejected:
                raise BadRequest(f"{data.folder}: {report.rejected[0].message}")
    await service.ingest.embed_pending()
    await service.jobs.trainer.train()
    stamp.touch()
