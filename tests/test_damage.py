"""Real files, hurt as disks and people hurt them: what says so, where, and what brings the data
back."""

import asyncio
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from service.build import build, open_catalog, open_embedder
from service.cli import app, shell
from service.config import HOUSE, Settings
from service.damage import latest_manifest
from service.errors import DiskFull
from service.schema import Item
from tests.conftest import FILMS, Make, free_port, sentence_transformer
from tests.test_api import Serve, served, started

Hurt = Callable[[Path], None]
DATABASE = "whyrank.db"
RESTORE = "restore a copy of it"
INGEST = "move it away and ingest the items again"
INDEX = "'whyrank ingest --re-index' makes the indexes anew"


def empty(file: Path) -> None:
    file.write_bytes(b"")


def halve(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def overwrite(file: Path) -> None:
    file.write_bytes(random.Random(0).randbytes(file.stat().st_size))


def garble(file: Path) -> None:
    """A few bytes in its middle."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = random.Random(0).randbytes(64)
    file.write_bytes(content)


def like(name: str) -> dict[str, object]:
    return {"user_id": "u", "item_id": "alien", "type": "like", "event_id": name, "text": "x" * 200}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders with items, vectors and events: `closed`, and `killed`, where all events are
    still in the journal."""
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(_fill(folder))
    return folder


async def _fill(folder: Path) -> None:
    found = Settings.load(HOUSE / "configs" / "test.yaml")
    service = await build(found.model_copy(update={"data": folder / "closed"}))
    await service.ingest.items(FILMS)
    await service.ingest.events([like(f"e{n}") for n in range(500)])
    await service.ingest.embed_pending()
    shutil.copytree(folder / "closed", folder / "killed")
    await service.close()


@pytest.fixture
def data(filled: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that commands use."""
    monkeypatch.setenv("WHYRANK_DATA", str(settings.data))
    monkeypatch.setenv("WHYRANK_CONFIG", str(HOUSE / "configs" / "test.yaml"))
    monkeypatch.setenv("WHYRANK_MODELS__TINY__BASE_URL", "http://127.0.0.1:9/v1")
    shutil.copytree(filled / "closed", settings.data)
    return settings.data


def file_of(data: Path, kind: str) -> Path:
    """The database, or a file that the catalogue reads: its manifest, its rows, or an index's by
    its name."""
    table = data / "catalog" / "items.lance"
    if kind == "manifest":
        return table / latest_manifest(table.parent)
    if kind == "rows":
        return max((table / "data").glob("*.lance"), key=lambda file: file.stat().st_mtime_ns)
    return (
        data / kind
        if kind == DATABASE
        else max((table / "_indices").glob(f"*/{kind}"), key=lambda one: one.stat().st_mtime_ns)
    )


def run(*words: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        for printer in (shell.console, shell.errors):
            patch.setattr(
                printer, "width", 2_000
            )  # a table that is cut into lines cuts sentences too
        return CliRunner().invoke(app, list(words))


def said(answer: Result) -> str:
    return " ".join(answer.output.split())


ASKED = ("recommend", "u", "--strategy", "prior", "--instruction", "horror")


@pytest.mark.parametrize("hurt", [halve, overwrite])
@pytest.mark.parametrize(
    ("kind", "cure"),
    [(DATABASE, RESTORE), ("manifest", INGEST), ("rows", INGEST), ("part_0_tokens.lance", INDEX)],
)
@pytest.mark.parametrize("words", [("serve",), ("doctor",), ASKED])
def test_a_damaged_file_is_named_with_its_cure_by_every_start(
    data: Path, kind: str, hurt: Hurt, cure: str, words: tuple[str, ...]
) -> None:
    file = file_of(data, kind)
    hurt(file)
    answer = run(*words)
    assert answer.exit_code == 1
    assert file.name in said(answer)
    assert cure in said(answer)
    assert "Traceback" not in answer.output


# ── the journal ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def killed(filled: Path, data: Path) -> Path:
    """The data folder of a process that was killed; returns the database."""
    shutil.rmtree(data)
    shutil.copytree(filled / "killed", data)
    return data / DATABASE


def count(database: Path) -> int:
    connection = sqlite3.connect(database)
    found: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    connection.close()
    return found


@pytest.mark.parametrize("hurt", [empty, halve, overwrite, garble])
def test_writes_that_a_damaged_journal_held_are_not_lost_in_silence(
    killed: Path, hurt: Hurt
) -> None:
    hurt(killed.with_name(f"{DATABASE}-wal"))
    answer = run("keys", "list")
    assert answer.exit_code == 1
    assert f"{DATABASE}-wal" in said(answer)
    assert "to go on without" in said(answer)


def test_a_process_that_was_killed_loses_nothing_and_starts_again(killed: Path) -> None:
    assert run("keys", "list").exit_code == 0
    assert count(killed) == 500


def test_a_database_that_is_gone_is_not_made_anew_over_its_journal(killed: Path) -> None:
    killed.unlink()
    answer = run("keys", "list")
    assert (answer.exit_code, f"{DATABASE} is gone" in said(answer)) == (1, True)


# ── what brings it back ───────────────────────────────────────────────────────────────────────────


def healthy(words: str = "horror") -> bool:
    answer = run("recommend", "u", "--strategy", "prior", "--instruction", words, "--json")
    return answer.exit_code == 0


@pytest.mark.parametrize(
    "kind", ["part_0_tokens.lance", "page_lookup.lance", "bitmap_page_lookup.lance"]
)
@pytest.mark.parametrize("hurt", [empty, garble])
def test_damaged_indexes_are_made_anew(data: Path, kind: str, hurt: Hurt) -> None:
    hurt(file_of(data, kind))
    answer = run("ingest", "--re-index")
    assert (answer.exit_code, "made anew of" in said(answer)) == (0, True)
    asyncio.run(examined(data))
    assert healthy()


async def examined(data: Path) -> None:
    catalog = await open_catalog(settings_of(data), await open_embedder(settings_of(data)))
    await catalog.health.examine_all()


def settings_of(data: Path) -> Settings:
    return Settings.load(HOUSE / "configs" / "test.yaml").model_copy(update={"data": data})


async def vectors_apart(data: Path) -> Path:
    """Moves the vectors into a file of their own, as LanceDB writes a column that is added later;
    returns the file."""
    import lancedb

    table = await (await lancedb.connect_async(data / "catalog")).open_table("items")
    await table.add_columns({"apart": "vector"})
    await table.drop_columns(["vector"])
    renamed: Any = {
        "path": "apart",
        "rename": "vector",
    }  # their type says otherwise than their documentation
    await table.alter_columns(renamed)
    return file_of(data, "rows")


def test_vectors_are_made_anew_where_only_they_are_damaged(data: Path) -> None:
    file = asyncio.run(vectors_apart(data))
    empty(file)
    wrong = said(run("doctor"))
    assert file.name in wrong
    assert "'whyrank ingest --re-embed' makes the vectors anew" in wrong
    answer = run("ingest", "--re-embed")
    assert (answer.exit_code, f"{len(FILMS)} embedded" in said(answer)) == (0, True)
    assert healthy()


def test_a_catalogue_is_ingested_again_beside_a_whole_log(data: Path, tmp_path: Path) -> None:
    empty(file_of(data, "rows"))
    (data / "catalog").rename(tmp_path / "away")
    feed = tmp_path / "films.jsonl"
    feed.write_text("\n".join(Item.model_validate(film).model_dump_json() for film in FILMS))
    assert run("ingest", "items", str(feed)).exit_code == 0
    assert healthy()
    assert count(data / DATABASE) == 500


def test_an_old_version_that_is_damaged_is_nobodys_loss(data: Path) -> None:
    table = data / "catalog" / "items.lance"
    old = max(table.glob("_versions/*.manifest"))
    overwrite(old)
    assert healthy()
    told = said(run("doctor"))
    assert f"{old.name} is damaged" in told
    assert "nobody needs it" in told


def test_writes_that_vanished_with_a_manifest_are_missed(data: Path) -> None:
    file_of(data, "manifest").unlink()
    assert "the manifest of version" in said(run("doctor"))


# ── other files of a start ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_an_embedder_that_cannot_be_read_names_its_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = sentence_transformer(tmp_path / "whole")
    monkeypatch.setenv("WHYRANK_EMBED__PATH", str(whole))
    assert run("ingest", "--re-embed").exit_code == 0
    shutil.copytree(whole, tmp_path / "minilm")
    monkeypatch.setenv("WHYRANK_EMBED__PATH", str(tmp_path / "minilm"))
    halve(tmp_path / "minilm" / name)
    for words in (("serve",), ("doctor",)):
        answer = run(*words)
        assert answer.exit_code == 1
        assert f"{tmp_path / 'minilm' / name}: not readable" in said(answer)
        assert "'whyrank models pull minilm'" in said(answer)


def test_fitted_weights_that_cannot_be_read_name_their_file(data: Path) -> None:
    file = data / "weights" / "movies.tiny.yaml"
    file.parent.mkdir()
    file.write_bytes(b"weights: \xff\xfe")
    for words in (("serve",), ("doctor",), ASKED):
        answer = run(*words)
        assert (answer.exit_code, "movies.tiny.yaml" in said(answer)) == (1, True)


# ── while it serves ───────────────────────────────────────────────────────────────────────────────


async def test_a_catalogue_damaged_while_it_serves_is_told_in_the_envelope_and_by_readiness(
    make: Make, serve: Serve, settings: Settings
) -> None:
    async with await served(make, serve, settings) as client:
        assert (await client.get("/readyz")).status_code == 200
        for file in (settings.data / "catalog" / "items.lance").glob("data/*.lance"):
            empty(file)
        asked = {"user_id": "u", "strategy": "prior", "instruction": "horror"}
        with capture_logs() as logs:
            answer = await client.post("/v1/recommendations", json=asked)
            ready = await client.get("/readyz")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "catalog_damaged")
        assert "catalog" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"]
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        assert INGEST in ready.json()["parts"]["catalog"]["why"]
        assert [
            (one["event"], one.get("part") or one.get("code"))
            for one in logs
            if one["log_level"] == "error"
        ] == [
            ("failed", "catalog_damaged"),
            ("part_not_ready", "catalog"),
        ]
        assert (await client.get("/metrics")).status_code == 200


async def test_a_database_replaced_while_it_serves_takes_no_more_writes(
    make: Make, serve: Serve, settings: Settings, tmp_path: Path
) -> None:
    async with await served(make, serve, settings) as client:
        (settings.data / DATABASE).rename(tmp_path / "away.db")
        for then in ("removed", "replaced"):
            if then == "replaced":
                (settings.data / DATABASE).write_bytes(b"")
            answer = await client.post("/v1/events", json=like("e"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_damaged")
            assert then in answer.json()["error"]["message"]
            ready = await client.get("/readyz")
            assert (ready.status_code, then in ready.json()["parts"]["store"]["why"]) == (503, True)


async def test_a_database_overwritten_while_it_serves_is_told(
    data: Path, settings: Settings
) -> None:
    process, client = await started(settings, free_port())
    overwrite(data / DATABASE)
    answers = [await client.get("/v1/users/u/events?limit=1000") for _ in range(2)]
    ready = await client.get("/readyz")
    process.send_signal(signal.SIGTERM)
    await client.aclose()
    assert process.wait(20) in (0, -signal.SIGTERM)
    assert {(one.status_code, one.json()["error"]["code"]) for one in answers} == {
        (503, "store_damaged")
    }
    assert (ready.status_code, DATABASE in ready.json()["parts"]["store"]["why"]) == (503, True)


# ── a full disk ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def disk(settings: Settings) -> Iterator[Path]:
    """The data folder on a disk of its own, of 100 MB."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None:
        pytest.skip("no disk to fill can be mounted: there is no mount")
    settings.data.mkdir()
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=100m", "whyrank", settings.data], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk to fill can be mounted: {mounted.stderr.decode()}")
    yield settings.data
    subprocess.run([unmount, "--lazy", settings.data], check=True)


def fill_up(disk: Path) -> Path:
    """Writes until nothing more can be written."""
    with (disk / "filler").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free)
    assert shutil.disk_usage(disk).free == 0
    return disk / "filler"


WRITES = {
    "events": like("new"),
    "items": {"id": "new", "title": "New"},
    "users": {"user_id": "new"},
}


async def test_on_a_full_disk_writes_are_a_507_reads_go_on_and_readiness_says_so(
    make: Make, serve: Serve, settings: Settings, disk: Path
) -> None:
    async with await served(make, serve, settings) as client:
        assert (await client.post("/v1/events", json=like("e"))).status_code == 200
        filler = fill_up(disk)
        for feed, row in WRITES.items():
            answer = await client.post(f"/v1/{feed}", json=row)
            assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full"), (
                answer.text
            )
            assert "free some space" in answer.json()["error"]["message"]
        asked = {"user_id": "u", "strategy": "prior", "instruction": "horror"}
        assert (await client.post("/v1/recommendations", json=asked)).status_code == 200
        assert (await client.get("/v1/items/alien")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "can't be written" in ready.json()["parts"]["disk"]["why"]
        filler.unlink()
        for name in ("items/new", "users/new"):
            assert (await client.get(f"/v1/{name}")).status_code == 404
        for feed, row in WRITES.items():
            assert (await client.post(f"/v1/{feed}", json=row)).json()["accepted"] == 1
        assert (await client.get("/readyz")).json()["parts"]["disk"]["ok"]


async def test_a_disk_that_is_nearly_full_is_told_before_writes_fail(
    make: Make, serve: Serve, settings: Settings, disk: Path
) -> None:
    async with await served(make, serve, settings) as client:
        assert (await client.get("/readyz")).json()["parts"]["disk"]["ok"]
        (disk / "filler").write_bytes(bytes(50 * 2**20))
        assert "writes may fail" in (await client.get("/readyz")).json()["parts"]["disk"]["why"]


async def test_what_was_acknowledged_is_there_after_files_met_their_limit(
    data: Path, settings: Settings
) -> None:
    """As under a quota: no file may grow beyond a size, though the disk has room."""
    process, client = await started(settings, free_port())
    journal = data / f"{DATABASE}-wal"
    resource.prlimit(
        process.pid,
        resource.RLIMIT_FSIZE,
        (journal.stat().st_size + 40_000, resource.RLIM_INFINITY),
    )
    statuses: dict[str, int] = {}
    for n in range(30):
        statuses[f"new{n}"] = (await client.post("/v1/events", json=like(f"new{n}"))).status_code
    assert set(statuses.values()) == {200, 507}
    ready = (await client.get("/readyz")).json()
    assert (ready["status"], DATABASE in ready["parts"]["disk"]["why"]) == ("degraded", True)
    asked = await client.post(
        "/v1/recommendations", json={"user_id": "u", "strategy": "prior", "top_n": 3}
    )
    assert asked.status_code == 200
    process.kill()
    process.wait()
    await client.aclose()
    connection = sqlite3.connect(data / DATABASE)
    kept = {
        row[0]
        for row in connection.execute("SELECT event_id FROM events WHERE event_id LIKE 'new%'")
    }
    connection.close()
    assert kept == {name for name, status in statuses.items() if status == 200}


async def test_an_item_whose_file_was_cut_short_is_not_acknowledged(data: Path) -> None:
    """LanceDB commits a file that a limit cut short without a word, and no row of it can be read
    from then on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    catalog = await open_catalog(settings_of(data), await open_embedder(settings_of(data)))
    await catalog.indexes.tidy()
    refused = 0
    for limit in range(3_000, 12_000, 1_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            await catalog.put([Item(id="new", title="New", text="many words " * 20)])
        except DiskFull:
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await catalog.health.examine_all()
    assert refused
    assert "new" in await catalog.get(["new"])
