import asyncio
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from service.errors import ConfigError, StorageError, StoreDamaged
from service.schema import Event, LoggedRanking, Ranking, User, UserPatch
from service.store import Store
from service.store.database import MIGRATIONS, micros
from service.store.events import PAGE, log_key
from service.store.trainings import KEPT, Training

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def liking(event: Event) -> float:
    return 1.0 if event.type == "like" else 0.0


def opened(folder: Path, meaning: str = "") -> Store:
    return Store(f"sqlite:///{folder / 'a.db'}", weigh=liking, half_life_days=1, meaning=meaning)


def like(user: str, item: str, minutes: int = 0, **more: object) -> Event:
    moment = NOON + timedelta(minutes=minutes)
    return Event.model_validate(
        {"user_id": user, "item_id": item, "type": "like", "occurred_at": moment, **more}
    )


async def history(store: Store, key: str) -> list[Event]:
    return (await store.person(key, ["like"])).events


async def test_a_duplicate_is_told_and_changes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert await store.events.add([like("u", "a"), like("u", "b"), like("u", "a")]) == [
        True,
        True,
        False,
    ]
    assert await store.events.add([like("u", "b"), like("u", "c")]) == [False, True]
    found = await store.users.get("u")
    assert found is not None
    assert found[1] == 3
    store.close()


async def test_the_same_event_id_of_two_people_is_two_events(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert await store.events.add([like("u", "a", event_id="1"), like("v", "a", event_id="1")]) == [
        True,
        True,
    ]
    store.close()


async def test_late_events_are_placed_by_when_they_happened(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.events.add([like("u", "second", 10)])
    await store.events.add([like("u", "first", 5)])
    assert [event.item_id for event in await history(store, "u")] == ["first", "second"]
    store.close()


async def test_a_session_is_nobody_and_no_user_can_pose_as_one(tmp_path: Path) -> None:
    store = opened(tmp_path)
    visit = Event.model_validate(
        {"session_id": "s", "type": "like", "item_id": "a", "occurred_at": NOON}
    )
    await store.events.add([visit])
    assert await history(store, "s") == []
    assert (await history(store, log_key(None, "s")))[0].user_id is None
    store.close()


async def test_history_begins_at_the_same_event_for_a_page_of_new_ones(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.events.add([like("u", f"i{n}", n) for n in range(2 * PAGE + 10)])
    first = (await history(store, "u"))[0].item_id
    await store.events.add([like("u", "more", 10_000)])
    later = await history(store, "u")
    assert (later[0].item_id, later[-1].item_id) == (first, "more")
    store.close()


async def test_popularity_decays_and_is_recounted_when_meanings_change(tmp_path: Path) -> None:
    store = opened(tmp_path)
    old = [like(f"u{n}", "old") for n in range(3)]
    await store.events.add([*old, *(like(f"v{n}", "new", 60 * 24 * 5) for n in range(2))])
    assert await store.popularity.top(5) == ["new", "old"]
    store.close()
    again = opened(tmp_path, meaning="changed")
    assert await again.popularity.top(5) == ["new", "old"]
    assert await again.popularity.among(["old", "ghost"]) == ["old"]
    again.close()


async def test_what_rises_is_told_from_what_was_always_liked(tmp_path: Path) -> None:
    store = opened(tmp_path)
    day = 60 * 24
    steady = [like(f"u{n}", "steady", n * day // 8) for n in range(80)]
    ended = [like(f"u{n}", "ended", n * 10) for n in range(40)]
    rising = [like(f"u{n}", "rising", 10 * day - 60 * n // 10) for n in range(10)]
    once = [like("u", "once", 10 * day)]
    for batch in (steady, ended, rising, once):
        await store.events.add(batch)
    excess = await store.popularity.rising(10)
    assert [*excess] == ["rising"], "one like is no trend"
    assert excess["rising"] > 3
    assert await store.popularity.rising(10, ["once", "steady", "ghost"]) == {}
    assert [*await store.popularity.rising(1, ["rising", "steady"])] == ["rising"]
    store.close()
    again = opened(tmp_path, meaning="changed")
    assert await again.popularity.rising(10) == pytest.approx(excess)
    again.close()
    empty = Store(f"sqlite:///{tmp_path / 'b.db'}", weigh=liking, half_life_days=1, meaning="")
    assert await empty.popularity.rising(10) == {}
    empty.close()


async def test_writers_in_many_threads_lose_nothing(tmp_path: Path) -> None:
    stores = [opened(tmp_path) for _ in range(3)]
    await asyncio.gather(*(stores[n % 3].events.add([like("u", f"i{n}", n)]) for n in range(30)))
    assert len(await history(stores[0], "u")) == 30
    for store in stores:
        store.close()


async def test_a_patch_changes_what_it_names_and_the_version(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.users.put([User(user_id="u", attributes={"age": 20}, locale="de")])
    user = await store.users.patch("u", UserPatch(allow_hosted=False))
    assert user == User(user_id="u", attributes={"age": 20}, locale="de", allow_hosted=False)
    assert await store.users.patch("ghost", UserPatch(locale="en")) is None
    found = await store.users.get("u")
    assert found is not None
    assert found[1] == 2
    store.close()


async def test_opinions_are_told_once_in_the_order_of_when_they_were_last_so(
    tmp_path: Path,
) -> None:
    store = opened(tmp_path)
    assert (await store.events.length(), await store.events.opinions(["like"])) == (0, [])
    visit = Event.model_validate(
        {"session_id": "s", "type": "like", "item_id": "a", "occurred_at": NOON}
    )
    other = like("u", "a", 7, type="view")
    nothing = Event.model_validate({"user_id": "u", "type": "like", "occurred_at": NOON})
    await store.events.add(
        [like("u", "a", 9), like("u", "a", 1), like("u", "b", 5), other, visit, nothing]
    )
    assert await store.events.opinions(["like"]) == [
        (log_key(None, "s"), "a", "like", None),
        ("u", "b", "like", None),
        ("u", "a", "like", None),
    ]
    assert await store.events.length() == 6
    store.close()


def training(version: str) -> Training:
    gram = np.array([[2.0, 0.1], [0.1, 3.0]]) / 3
    return Training(
        version, NOON, gram, alpha=5, regularization=1, events=10, items=4, made_with="x"
    )


async def test_another_process_sees_a_training_and_old_ones_are_forgotten(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    assert (await one.trainings.latest(), await one.trainings.get("1")) == (None, None)
    for n in range(1, 6):
        await two.trainings.add(training(f"{n}"))
    found, last = await one.trainings.get("1"), await one.trainings.latest()
    assert found is not None
    assert last is not None
    assert (found.version, last.version, last.trained_at) == ("1", "5", NOON)
    assert np.array_equal(found.gram, training("1").gram)
    await two.trainings.forget_old()
    assert await one.trainings.get("5") is not None
    assert [await one.trainings.get(f"{n}") is not None for n in range(1, 6)] == [
        n > 5 - KEPT for n in range(1, 6)
    ]
    one.close()
    two.close()


@pytest.mark.parametrize("name", ["journal_mode", "synchronous"])
async def test_writes_are_on_disk_when_they_return(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path)
    with store._engine.connect() as connection:
        assert (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            == {"journal_mode": "wal", "synchronous": 2}[name]
        )
    store.close()


async def test_what_was_last_said_is_listed_once_however_often_it_was_said(tmp_path: Path) -> None:
    store = opened(tmp_path)
    visit = Event.model_validate(
        {"session_id": "s", "type": "like", "item_id": "a", "occurred_at": NOON}
    )
    await store.events.add(
        [
            visit,
            *(like("u", "a", n) for n in range(PAGE)),
            like("u", "b"),
            like("v", "a"),
            like("u", "c", 5),
        ]
    )
    await store.events.add(
        [
            like("u", "c", 1),
            like("u", "a", type="view"),
            Event.model_validate({"user_id": "u", "type": "search", "occurred_at": NOON}),
        ]
    )
    rows: list[Event] = []
    place: int | None = 0
    while place is not None:
        found, place = await store.events.latest_per_item(
            place, 2, until=await store.events.length()
        )
        assert len(found) <= 2
        rows += [event for _, event in found]
    assert [(one.user_id, one.type, one.item_id) for one in rows] == [
        ("u", "like", "a"),
        ("u", "like", "b"),
        ("v", "like", "a"),
        ("u", "like", "c"),
        ("u", "view", "a"),
    ]
    assert rows[0].occurred_at == NOON + timedelta(minutes=PAGE - 1)
    assert [
        one.item_id
        for _, one in (await store.events.latest_per_item(0, 9, until=9_999, who="v"))[0]
    ] == ["a"]
    assert await store.events.latest_per_item(0, 9, until=9_999, who="ghost") == ([], None)
    store.close()


async def test_a_forgotten_user_leaves_no_row_and_nobody_else_is_touched(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.users.put([User(user_id="u"), User(user_id="v")])
    await store.events.add([like("u", "a"), like("v", "a")])
    assert await store.forget("u")
    assert not await store.forget("u")
    assert (await store.users.get("u"), await history(store, "u")) == (None, [])
    assert len(await history(store, "v")) == 1
    store.close()


async def test_rankings_come_by_pages_in_the_order_of_time_also_those_of_one_moment(
    tmp_path: Path,
) -> None:
    store = opened(tmp_path)
    for name, minutes, who in (
        ("c", 1, "u"),
        ("b", 0, "u"),
        ("d", 1, "u"),
        ("a", 1, "u"),
        ("x", 0, "v"),
        ("y", 0, None),
    ):
        ranking = Ranking(ranking_id=name, items=[], strategy="prior")
        await store.rankings.log(
            ranking, who=who, domain="movies", shown_at=micros(NOON + timedelta(minutes=minutes))
        )
    rows: list[LoggedRanking] = []
    while page := await store.rankings.page("u", rows[-1] if rows else None, 2):
        assert len(page) <= 2
        rows += page
    assert [one.ranking.ranking_id for one in rows] == ["b", "a", "c", "d"]
    assert (rows[0].shown_at, rows[0].domain) == (NOON, "movies")
    store.close()


def test_a_newer_versions_database_is_refused_in_one_sentence(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    other.close()
    with pytest.raises(ConfigError) as refused:
        opened(tmp_path)
    assert refused.value.message == (
        f"{tmp_path / 'a.db'} was written by a newer whyrank (revision 9999): "
        "upgrade this installation, or restore an older copy"
    )


def test_the_last_migration_by_name_is_the_last_by_history(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "a.db") as other:
        found = other.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    other.close()
    assert found == ScriptDirectory.from_config(config).get_current_head()
    assert (
        found
        == max(file.name for file in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]
    )


async def test_an_older_versions_database_is_brought_up_to_date(tmp_path: Path) -> None:
    old = opened(tmp_path)
    await old.events.add([like("u", "before"), *(like(f"v{n}", "now", 60 * 96) for n in range(5))])
    rising = await old.popularity.rising(9)
    assert [*rising] == ["now"]
    old.close()
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("DROP INDEX most_lately")
        other.execute("ALTER TABLE popularity DROP COLUMN log2_lately")
        other.execute("UPDATE notes SET value = 'of an older version' WHERE key = 'popularity'")
        other.execute("DROP TABLE shadows")
        other.execute("DROP TABLE neighbours")
        other.execute("UPDATE alembic_version SET version_num = '0004'")
    other.close()
    store = opened(tmp_path)
    store.check_all()
    assert await store.popularity.rising(9) == pytest.approx(rising)
    store.close()


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("CREATE TABLE events (id)")
    other.close()
    with pytest.raises(StoreDamaged, match="it holds tables, but not ours"):
        opened(tmp_path)


async def test_a_row_that_is_no_json_is_damage(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.users.put([User(user_id="u")])
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("UPDATE users SET attributes = '{broken'")
    other.close()
    with pytest.raises(StoreDamaged, match="a row holds no JSON"):
        await store.users.get("u")
    with pytest.raises(StoreDamaged):
        store.check()
    store.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="can't be made"):
        opened(tmp_path / "file" / "folder")


SECOND_USER = """
import fcntl, sys
with open(sys.argv[1], "r+b") as index:
    fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0x80)
"""
"""What SQLite does to find out whether anybody else has the database open: whoever gets this lock
takes the journal's index for unused, and cuts it. https://www.sqlite.org/src/file/src/os_unix.c"""


async def test_checks_leave_sqlite_its_locks(tmp_path: Path) -> None:
    """A process that lost them would be killed, or write over others, once another opens the
    database."""
    store = opened(tmp_path)
    await store.events.add([like("u", "a")])
    beside = opened(tmp_path)  # its index is there now, and read
    store.check()
    store.check_all()
    beside.close()
    probe = [sys.executable, "-c", SECOND_USER, f"{tmp_path / 'a.db-shm'}"]
    ran = await asyncio.to_thread(subprocess.run, probe, capture_output=True, text=True)
    assert "BlockingIOError" in ran.stderr
    store.close()
