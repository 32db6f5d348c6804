"""`make bench-scale`: how long a training on a large log takes, and in how much memory. No test: it
prints."""

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from service.build import build, open_store
from service.config import HOUSE, Settings

EVENTS = int(os.environ.get("SCALE", "10_000_000"))
ITEMS = max(EVENTS // 100, 100)
A_PERSON = 50
"""How many events each person has."""
CHUNK = 100_000
"""Events written at a time."""
SECOND = 1_000_000
"""In microseconds."""


def settings_of(folder: Path) -> Settings:
    return Settings.load(HOUSE / "configs" / "test.yaml").model_copy(update={"data": folder})


def test_training(tmp_path: Path) -> None:
    """On likes of invented people, who like what is popular (Zipf) and what lies near their own
    taste; in a process of its own, whose memory is told."""
    settings = settings_of(tmp_path)
    open_store(settings).close()
    start = time.perf_counter()
    with closing(sqlite3.connect(tmp_path / "whyrank.db")) as database:
        database.execute("PRAGMA synchronous=OFF")
        dice = np.random.default_rng(0)
        for first in range(0, EVENTS, CHUNK):
            _write(database, dice, first, min(CHUNK, EVENTS - first))
    size = (tmp_path / "whyrank.db").stat().st_size / 2**30
    print(
        f"\n{EVENTS:,} likes of {EVENTS // A_PERSON:,} people and {ITEMS:,} items: written in "
        f"{time.perf_counter() - start:.0f} s, {size:.1f} GiB"
    )
    code = f"import asyncio; from tests.scale import train; asyncio.run(train({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=HOUSE, check=True)


def _write(database: sqlite3.Connection, dice: np.random.Generator, first: int, size: int) -> None:
    numbers = np.arange(first, first + size)
    people = dice.permutation(numbers) // A_PERSON
    popular = dice.zipf(1.3, size) % ITEMS
    own = (people * 7_919 + dice.integers(0, 50, size)) % ITEMS
    items = np.where(dice.random(size) < 0.5, popular, own)
    rows = zip(people.tolist(), numbers.tolist(), items.tolist(), strict=True)
    database.executemany(
        "INSERT INTO events (who, event_id, item_id, type, occurred_at) "
        "VALUES ('u' || ?, ?, 'i' || ?, 'like', ?)",
        ((who, str(n), item, 1_700_000_000 * SECOND + n * SECOND) for who, n, item in rows),
    )
    database.commit()


async def train(folder: str) -> None:
    """Trains as the service does, and prints seconds and the process's memory."""
    service = await build(settings_of(Path(folder)), llms={}, scorers={})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    training = asyncio.create_task(service.jobs.trainer.train())
    longest = 0.0
    while not training.done():
        slept = time.perf_counter()
        await asyncio.wait([training], timeout=0.05)
        longest = max(longest, time.perf_counter() - slept - 0.05)
    await training
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    await service.close()
    print(
        f"trained in {time.perf_counter() - start:.0f} s; the process took {before:.1f} GiB before "
        f"and {peak:.1f} at most; the longest that a request had to wait for it: {longest:.2f} s"
    )
