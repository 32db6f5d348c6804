import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eval.cases import Data
from eval.protocols import PROTOCOLS, Options, make
from service.config import MEANINGS, EventSettings
from service.errors import BadRequest

START = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = Options(MEANINGS, negatives=3)


def folder(
    path: Path, events: list[dict[str, Any]], items: int = 40, **more: list[dict[str, Any]]
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    feeds = {
        "items": [{"id": f"i{n}", "title": f"Item {n}"} for n in range(items)],
        "events": events,
        **more,
    }
    for name, rows in feeds.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rating(user: str, item: int, second: float, value: float = 5) -> dict[str, Any]:
    at = (START + timedelta(seconds=second)).isoformat()
    return {
        "user_id": user,
        "item_id": f"i{item}",
        "type": "rating",
        "value": value,
        "occurred_at": at,
    }


def busy(users: int = 6, each: int = 10) -> list[dict[str, Any]]:
    return [
        rating(f"u{user}", (3 * user + n) % 40, 1_000 * user + 10 * n)
        for user in range(users)
        for n in range(each)
    ]


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "given"])
def test_no_protocol_lets_the_log_know_a_case(tmp_path: Path, protocol: str) -> None:
    data = Data.read(folder(tmp_path / "d", busy(30)))
    told = make(data, protocol, tmp_path / "c", OPTIONS)
    made = Data.read(tmp_path / "c")
    made.audit()
    assert told["cases"] == len(made.cases) > 0
    for case in made.cases:
        known = [event for event in made.events if event.user_id == case.user_id]
        assert case.at is not None
        assert all(event.occurred_at < case.at for event in known)
        assert {event.item_id for event in known} == set(case.history)
        assert not set(case.relevant) & {*case.history, *case.exclude}


def test_the_last_share_of_liked_items_is_asked_for(tmp_path: Path) -> None:
    events = [rating("u", n, 10 * n, value=5 if n % 2 else 2) for n in range(20)]
    make(Data.read(folder(tmp_path / "d", events)), "temporal", tmp_path / "c", OPTIONS)
    (case,) = Data.read(tmp_path / "c").cases
    assert case.relevant == ["i17", "i19"]
    assert case.history == [f"i{n}" for n in range(17)]


def test_without_times_a_random_share_is_asked_for_and_the_split_says_so(tmp_path: Path) -> None:
    data = Data.read(
        folder(tmp_path / "d", [rating(f"u{user}", n, 0) for user in range(20) for n in range(20)])
    )
    with pytest.raises(BadRequest, match="protocol random"):
        make(data, "temporal", tmp_path / "c", OPTIONS)
    told = make(data, "random", tmp_path / "c", OPTIONS)
    found = Data.read(tmp_path / "c").cases
    assert [len(case.relevant) for case in found] == [4] * 20
    assert len({item for case in found for item in case.relevant}) > 10
    assert told["notes"] == ["random order: what is asked for is not what came later"]


def test_events_of_the_same_second_are_neither_known_nor_asked_for_and_are_counted(
    tmp_path: Path,
) -> None:
    events = [rating("u", n, 10 * n) for n in range(6)] + [
        rating("u", 30, 50.2),
        rating("u", 20, 50.7, value=1),
    ]
    told = make(
        Data.read(folder(tmp_path / "d", events)), "leave-last-out", tmp_path / "c", OPTIONS
    )
    (case,) = Data.read(tmp_path / "c").cases
    assert told["ties"] == 1
    assert case.relevant == ["i5"]  # of two liked items in one second the greater id is the later
    assert sorted(case.exclude) == ["i20", "i30"]
    assert "i5" not in case.history


def test_one_cut_for_everybody_is_stated_and_warned_about(tmp_path: Path) -> None:
    told = make(Data.read(folder(tmp_path / "d", busy(30))), "global-time", tmp_path / "c", OPTIONS)
    assert told["notes"][0].startswith("cut at 2026-01-01")
    assert "only" in told["notes"][1]


def test_negatives_are_new_to_the_person_and_as_many_as_asked(tmp_path: Path) -> None:
    data = Data.read(folder(tmp_path / "d", busy()))
    for protocol in ("sampled", "popularity-matched"):
        told = make(data, protocol, tmp_path / protocol, OPTIONS)
        for case in Data.read(tmp_path / protocol).cases:
            touched = {event.item_id for event in data.events if event.user_id == case.user_id}
            assert case.candidates is not None
            assert len(case.candidates) == 4
            assert set(case.candidates) & touched == set(case.relevant)
    assert (
        "comparison only"
        in json.loads((tmp_path / "sampled" / "protocol.json").read_text())["notes"][0]
    )
    assert told["notes"] == []


def test_given_cases_bring_their_own_history_one_a_person(tmp_path: Path) -> None:
    """An earlier case's answer is a later case's history: of one person's cases only the last is
    asked."""
    cases = [
        {
            "case_id": "1",
            "user_id": "u0",
            "history": ["i1"],
            "candidates": ["i2", "i3"],
            "relevant": ["i2"],
        },
        {
            "case_id": "2",
            "user_id": "u0",
            "history": ["i1", "i2"],
            "candidates": ["i3", "i4"],
            "relevant": ["i4"],
        },
        {"case_id": "3", "user_id": "u1", "history": ["i5"], "relevant": ["i3"]},
    ]
    users = [{"user_id": "u0", "attributes": {"age": 30}}]
    data = Data.read(folder(tmp_path / "d", busy(), cases=cases, users=users))
    told = make(data, "given", tmp_path / "c", OPTIONS)
    made = Data.read(tmp_path / "c")
    known = {
        user: {event.item_id for event in made.events if event.user_id == user}
        for user in ("u0", "u1")
    }
    assert sorted(case.case_id for case in made.cases) == ["2", "3"]
    assert known == {"u0": {"i1", "i2"}, "u1": {"i5"}}
    assert "1 cases left out" in told["notes"][0]


def test_given_cases_that_ask_for_what_a_like_consumes_are_warned_about(tmp_path: Path) -> None:
    cases = [
        {"case_id": "1", "user_id": "u0", "history": ["i1", "i2"], "relevant": ["i2"]},
        {
            "case_id": "2",
            "user_id": "u1",
            "history": ["i1", "i2"],
            "candidates": ["i2", "i3"],
            "relevant": ["i2"],
        },
    ]
    data = Data.read(folder(tmp_path / "d", busy(), cases=cases))
    assert make(data, "given", tmp_path / "c", OPTIONS)["notes"] == [
        "warning: 1 cases ask for what their history has, which is retrieved for nobody again"
    ]
    assert make(data, "given", tmp_path / "s", Options(EventSettings().of("shop")))["notes"] == []


def test_an_item_only_seen_before_may_still_be_asked_for(tmp_path: Path) -> None:
    liked = [rating("u", n, 100 * n) for n in range(6)]
    seen = [{**event, "type": "view", "occurred_at": _before(event)} for event in liked]
    make(Data.read(folder(tmp_path / "d", liked + seen)), "leave-last-out", tmp_path / "c", OPTIONS)
    (case,) = Data.read(tmp_path / "c").cases
    assert case.relevant == ["i5"]
    assert "i5" in case.history


def _before(event: dict[str, Any]) -> str:
    return (datetime.fromisoformat(event["occurred_at"]) - timedelta(seconds=5)).isoformat()


def test_the_data_itself_is_not_written_over(tmp_path: Path) -> None:
    data = Data.read(folder(tmp_path / "d", busy()))
    with pytest.raises(BadRequest, match="the data itself"):
        make(data, "temporal", tmp_path / "d", OPTIONS)


def test_the_same_seed_makes_the_same_cases(tmp_path: Path) -> None:
    data = Data.read(folder(tmp_path / "d", busy(30)))
    for name in ("one", "two"):
        make(data, "cold", tmp_path / name, OPTIONS)
    assert (tmp_path / "one" / "cases.jsonl").read_text() == (
        tmp_path / "two" / "cases.jsonl"
    ).read_text()


@pytest.mark.parametrize("planted", [rating("u0", 39, 10_000), rating("u0", 39, 90)])
def test_a_planted_future_event_is_caught(tmp_path: Path, planted: dict[str, Any]) -> None:
    make(Data.read(folder(tmp_path / "d", busy())), "leave-last-out", tmp_path / "c", OPTIONS)
    with (tmp_path / "c" / "events.jsonl").open("a") as log:
        log.write(json.dumps(planted) + "\n")
    with pytest.raises(BadRequest, match="leaks"):
        Data.read(tmp_path / "c").audit()


def test_an_answer_in_the_log_is_caught_whenever_it_is_said_to_have_happened(
    tmp_path: Path,
) -> None:
    make(Data.read(folder(tmp_path / "d", busy())), "leave-last-out", tmp_path / "c", OPTIONS)
    case = Data.read(tmp_path / "c").cases[0]
    with (tmp_path / "c" / "events.jsonl").open("a") as log:
        log.write(json.dumps({**rating(case.user_id, 0, -500), "item_id": case.relevant[0]}) + "\n")
    with pytest.raises(BadRequest, match="answers"):
        Data.read(tmp_path / "c").audit()


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("events", "not json", "line 2"),
        ("events", '{"user_id": "u", "type": "rating", "occurred_at": "yesterday"}', "occurred_at"),
        ("items", '{"id": ".."}', "may not be"),
        ("cases", '{"case_id": "1", "user_id": "u", "relevant": []}', "relevant"),
        (
            "cases",
            '{"case_id": "1", "user_id": "u", "relevant": ["a"]}\n{"case_id": "1", "user_id": '
            '"v", "relevant": ["a"]}',
            "twice",
        ),
        ("cases", '{"case_id": "1", "user_id": "u", "relevant": ["a"], "answer": "a"}', "answer"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, line: str, told: str) -> None:
    path = folder(tmp_path / "d", busy(1, 1), items=1)
    with (path / f"{name}.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadRequest, match=told):
        Data.read(path)


def test_data_without_a_case_or_an_item_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no case"):
        make(Data.read(folder(tmp_path / "d", busy(1, 2))), "temporal", tmp_path / "c", OPTIONS)
    with pytest.raises(BadRequest, match="no data folder"):
        Data.read(tmp_path / "nothing")
