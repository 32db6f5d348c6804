"""Files that people have: each public layout by the command, and every quirk of tables by the
reader behind it."""

import asyncio
import gzip
import io
import json
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

from service.build import Service, build
from service.cli import app
from service.config import HOUSE, Settings
from service.errors import BadRequest
from service.feeds.files import open_feed
from service.feeds.mapping import FileMapping
from service.schema import Event, Feed, Item, User

Fill = Callable[..., Result]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHYRANK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WHYRANK_CONFIG", str(HOUSE / "configs" / "test.yaml"))
    return tmp_path


def ingest(feed: str, file: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["ingest", feed, file, *options])


def stored() -> tuple[dict[str, Item], dict[str, User], list[Event]]:
    """All that is stored, by id, and the events of all users."""
    return asyncio.run(_stored())


async def _stored() -> tuple[dict[str, Item], dict[str, User], list[Event]]:
    service: Service = await build(Settings.load())
    try:
        items = {item.id: item for item in await service.records.list_items("", 1_000)}
        users = {user.user_id: user for user in await service.records.list_users("", 1_000)}
        pages = [await service.records.list_events(user_id, 0, 1_000) for user_id in users]
        return items, users, [event for page in pages for _, event in page]
    finally:
        await service.close()


def written(file: str, text: str, encoding: str = "utf-8") -> str:
    Path(file).write_bytes(text.encode(encoding))
    return file


# ── public layouts, by the command ────────────────────────────────────────────────────────────────


def test_recboles_atomic_files_are_taken_whole(here: Path) -> None:
    written(
        "ml.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\tprice:float\n"
        '1\tToy "Story"\t1995\tAnimation Comedy\t12.99\n2\tGoldenEye\t\tAction\tNaN\n',
    )
    written("ml.user", "user_id:token\tage:token\tgender:token\n7\t24\tM\n8\t\tF\n")
    written(
        "ml.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t1\t5\t881250949\n8\t2\t1.0\t881250950.0\n",
    )
    for feed, file in (("items", "ml.item"), ("users", "ml.user"), ("events", "ml.inter")):
        answer = ingest(feed, file)
        assert f"{feed}: 2 accepted\n" in answer.output, answer.output
        assert "format: recbole" in answer.output
    items, users, events = stored()
    assert items["1"].title == 'Toy "Story"'
    assert items["1"].attributes == {
        "release_year": 1995,
        "class": ["Animation", "Comedy"],
        "price": 12.99,
    }
    assert items["2"].attributes == {"class": ["Action"]}
    assert users["7"].attributes == {"age": 24, "gender": "M"}
    assert [(event.type, event.value, event.occurred_at) for event in events] == [
        ("rating", 5, datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)),
        ("rating", 1, datetime(1997, 12, 4, 15, 55, 50, tzinfo=UTC)),
    ]


def test_movielens_of_every_size_is_taken_whole(here: Path) -> None:
    written(
        "movies.dat",
        "1::Misérables, Les (1995)::Drama|Musical\n2::Heat (1995)::Action\n",
        "latin-1",
    )
    written("users.dat", "7::F::25::15::48067\n")
    written("ratings.dat", "7::1::5::978300760\n7::2::1::978300761\n")
    written(
        "movies.csv",
        'movieId,title,genres\n3,"Matrix, The (1999)",Action|Sci-Fi\n4,Untitled,(no genres '
        "listed)\n",
    )
    written("ratings.csv", "userId,movieId,rating,timestamp\n7,3,4.5,1260759144\n")
    written("tags.csv", "userId,movieId,tag,timestamp\n7,3,mind-bending,1260759145\n")
    for feed, file, count in (
        *(("items", "movies.dat", 2), ("users", "users.dat", 1), ("events", "ratings.dat", 2)),
        *(("items", "movies.csv", 2), ("events", "ratings.csv", 1), ("events", "tags.csv", 1)),
    ):
        answer = ingest(feed, file)
        assert f"{feed}: {count} accepted\n" in answer.output, answer.output
        assert "format: movielens" in answer.output
    items, users, events = stored()
    assert {item.id: (item.title, item.attributes) for item in items.values()} == {
        "1": ("Les Misérables", {"year": 1995, "genre": ["Drama", "Musical"]}),
        "2": ("Heat", {"year": 1995, "genre": ["Action"]}),
        "3": ("The Matrix", {"year": 1999, "genre": ["Action", "Sci-Fi"]}),
        "4": ("Untitled", {}),
    }
    assert users["7"].attributes == {"gender": "F", "age": 25, "occupation": 15, "zip": 48067}
    assert [(event.item_id, event.type, event.value, event.text) for event in events] == [
        *(("1", "rating", 5, None), ("2", "rating", 1, None)),
        *(("3", "rating", 4.5, None), ("3", "comment", None, "mind-bending")),
    ]


def test_amazons_reviews_of_three_years_are_taken_whole(here: Path) -> None:
    reviews = [
        {
            "reviewerID": "A",
            "asin": "1",
            "overall": 5.0,
            "unixReviewTime": 1400000000,
            "summary": "Good",
            "reviewText": "…",
        },
        {
            "user_id": "B",
            "asin": "1-blue",
            "parent_asin": "1",
            "rating": 2.0,
            "timestamp": 1600000000123,
            "title": "Meh",
        },
    ]
    written("reviews.jsonl", "".join(json.dumps(row) + "\n" for row in reviews))
    meta = [
        "{'asin': '1', 'title': \"Kettle's best\", 'price': 12.99, 'imUrl': 'http://x/1.jpg', "
        "'categories': [['Home', 'Tea']]}",
        json.dumps(
            {
                "asin": "2",
                "title": "Mug",
                "price": "$1,012.50",
                "category": ["Home"],
                "brand": "Kailas",
            }
        ),
        json.dumps(
            {
                "parent_asin": "3",
                "title": "Cup",
                "price": None,
                "categories": [],
                "store": "Kin",
                "average_rating": 4.5,
            }
            | {
                "description": ["Thin", "glass"],
                "images": [{"large": "http://x/3.jpg"}],
                "details": {"a": "b"},
            }
        ),
    ]
    written("meta.json", "\n".join(meta))
    taken = ingest("events", "reviews.jsonl")
    assert "events: 2 accepted\n" in taken.output
    assert "left out, as there is no room for it: reviewText (1)" in taken.output
    assert "items: 3 accepted\n" in ingest("items", "meta.json").output
    items, _, events = stored()
    assert (items["1"].title, items["1"].image_url) == ("Kettle's best", "http://x/1.jpg")
    assert items["1"].attributes == {"categories": ["Home", "Tea"], "price": 12.99}
    assert items["2"].attributes == {"categories": ["Home"], "price": 1012.5, "brand": "Kailas"}
    assert (items["3"].text, items["3"].image_url) == ("Thin glass", "http://x/3.jpg")
    assert items["3"].attributes == {"brand": "Kin", "average_rating": 4.5}
    assert {
        (one.user_id, one.item_id, one.value, one.text, one.occurred_at.year) for one in events
    } == {
        ("A", "1", 5, "Good", 2014),
        ("B", "1", 2, "Meh", 2020),
    }


def test_personalizes_bulk_files_are_taken_whole(here: Path) -> None:
    written(
        "interactions.csv",
        "USER_ID,ITEM_ID,EVENT_TYPE,EVENT_VALUE,TIMESTAMP,DEVICE\nu,1,AddToCart,,1706702400,phone\nu,2,rating,4.0,1706702401,\n",
    )
    written(
        "items.csv",
        "ITEM_ID,PRICE,CATEGORY_L1,GENRES,PRODUCT_DESCRIPTION,CREATION_TIMESTAMP\n"
        "1,12.5,Tea,Drama|War,A tin of tea,1706702400\n2,NULL,,,,\n",
    )
    written("users.csv", "USER_ID,AGE\nu,33\n")
    for feed, file, count in (
        ("events", "interactions.csv", 2),
        ("items", "items.csv", 2),
        ("users", "users.csv", 1),
    ):
        answer = ingest(feed, file)
        assert f"{feed}: {count} accepted\n" in answer.output, answer.output
        assert "format: personalize-csv" in answer.output
    items, users, events = stored()
    assert items["1"].text == "A tin of tea"
    assert items["1"].published_at == datetime(2024, 1, 31, 12, tzinfo=UTC)
    assert items["1"].attributes == {
        "price": 12.5,
        "category_l1": "Tea",
        "genres": ["Drama", "War"],
    }
    assert items["2"].attributes == {}
    assert users["u"].attributes == {"age": 33}
    assert [(event.type, event.value) for event in events] == [("add_to_cart", None), ("rating", 4)]


def test_any_other_table_is_taken_by_a_mapping(here: Path) -> None:
    shop = (
        "Artikelnummer;Titel;Preis;Jahr;Intern\nx1;Müller's "
        "Kessel;12.99;1999.0;7\n2;Größe;NULL;2001.0;8\n3;NA;;NaN;\n"
    )
    written("shop.csv", shop, "latin-1")
    options = [
        "--map",
        "id=Artikelnummer",
        "--map",
        "title=Titel",
        "--map",
        "year=Jahr",
        "--drop",
        "Intern",
    ]
    refused = ingest("items", "shop.csv", *options)
    assert refused.exit_code == 2
    assert "near line 2: bytes that are no utf-8" in refused.output
    assert "--encoding" in refused.output
    tried = ingest("items", "shop.csv", *options, "--encoding", "latin-1", "--dry-run")
    assert '"title": "Müller\'s Kessel"' in tried.output
    assert "items: 3 would be taken; nothing is stored" in tried.output
    assert stored()[0] == {}
    assert (
        "items: 3 accepted\n"
        in ingest("items", "shop.csv", *options, "--encoding", "latin-1").output
    )
    items, _, _ = stored()
    assert items["x1"].attributes == {"Preis": 12.99, "year": 1999}
    assert (items["3"].title, items["3"].attributes) == ("", {})
    written(
        "map.yaml",
        "map: {user_id: wer, item_id: was, value: sterne, occurred_at: wann}\nset: {type: "
        "rating}\ntime_unit: s\n",
    )
    written("log.tsv", "wer\twas\tsterne\twann\nu\t2\t10\t1260759144\nu\t3\t1\t1260759145\n")
    answer = ingest("events", "log.tsv", "--mapping", "map.yaml", "--scale", "1:10")
    assert "events: 2 accepted\n" in answer.output, answer.output
    _, _, events = stored()
    assert [(event.value, event.occurred_at.year) for event in events] == [(5, 2009), (1, 2009)]


def test_what_is_odd_about_a_feed_is_said_and_costs_no_row(here: Path) -> None:
    rows = [
        {
            "id": 1,
            "titel": "Kettle",
            "year": "old",
            "price": 3,
            "size": {"cm": {"w": 2}},
            "gone": None,
        },
        {"id": "2", "title": "Mug", "year": 1999.0, "price": 4},
        {"item_id": "3"},
        {"id": "4", "tags": [{"a": 1}]},
    ]
    written("odd.json", json.dumps(rows))
    answer = ingest("items", "odd.json")
    assert "items: 2 accepted, 2 rejected" in answer.output
    told = " ".join(answer.output.split())
    assert "line 3: id: missing; item_id is there: call it id" in told
    assert (
        "line 4: attributes.tags: a text, a number, true or false, or a list of these is needed"
        in told
    )
    assert "became attributes: year (2), price (2), titel (1), size (1)" in told
    assert "titel became an attribute: was title meant?" in told
    assert (
        'attributes.year left out of 1 rows: declared int (catalog.filterable), found "old"' in told
    )
    items, _, _ = stored()
    assert items["1"].attributes == {"titel": "Kettle", "price": 3, "size.cm.w": 2}
    assert items["2"].attributes == {"year": 1999, "price": 4}
    written(
        "events.csv", "user_id,item_id,type,value\nu,1,rating,9\nu,2,rating,0.5\nu,2,rating,5\n"
    )
    warned = " ".join(ingest("events", "events.csv").output.split())
    assert (
        "2 values of rating lie outside its scale of 1 to 5: from 0.5 to 9; set "
        "events.types.rating.scale" in warned
    )


def test_a_feed_may_come_by_standard_input(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = CliRunner().invoke(
        app, ["ingest", "items", "-"], input="id,title\n1,Kettle\n,Nameless\n"
    )
    assert "items: 1 accepted, 1 rejected" in answer.output
    kept = json.loads((here / "stdin.rejected.jsonl").read_text())
    assert (kept["line"], kept["source"]) == (3, '{"id": "", "title": "Nameless"}')


# ── tables and their quirks ───────────────────────────────────────────────────────────────────────


def rows(
    file: str, feed: Feed, format_: str = "auto", **options: Any
) -> list[dict[str, Any] | str]:
    """Rows as our feed takes them, and why others can't be."""
    with open_feed(file, feed, format_, FileMapping.made(None, options)) as opened:
        return [line.row if line.row is not None else line.reason for line in opened.lines]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *(
            ("1999.0", 1999),
            ("0", 0),
            ("-3", -3),
            ("12.50", 12.5),
            (".5", 0.5),
            ("1e-05", 1e-05),
            ("007", "007"),
        ),
        *(
            ("1E5", "1E5"),
            ("12,50", "12,50"),
            ("TRUE", True),
            ("a|b|", ["a", "b"]),
            ("1|NA|2.0", [1, 2]),
        ),
        *((missing, None) for missing in ("", "NULL", "NaN", "nan", "NA", "N/A", "\\N")),
        *(("None", "None"), ("inf", "inf"), ("4006381333931", 4006381333931)),
    ],
)
def test_a_cell_is_what_it_reads_as(here: Path, cell: str, value: Any) -> None:
    found = rows(
        written("a.csv", f"id,x\n1,{json.dumps(cell) if ',' in cell else cell}\n"), "items"
    )
    assert found == [{"id": "1"} if value is None else {"id": "1", "x": value}]


@pytest.mark.parametrize(
    ("time", "options", "moment"),
    [
        ("2024-01-31T12:00:00Z", {}, datetime(2024, 1, 31, 12, tzinfo=UTC)),
        ("1706702400000", {}, datetime(2024, 1, 31, 12, tzinfo=UTC)),
        ("1706702400000.0", {}, datetime(2024, 1, 31, 12, tzinfo=UTC)),
        ("1706702400", {"time_unit": "s"}, datetime(2024, 1, 31, 12, tzinfo=UTC)),
        ("1706702400.5", {"time_unit": "s"}, datetime(2024, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        (
            "2024-01-31 13:00:00",
            {"time_zone": "Europe/Berlin"},
            datetime(2024, 1, 31, 12, tzinfo=UTC),
        ),
        (
            "2024-07-31 14:00:00",
            {"time_zone": "Europe/Berlin"},
            datetime(2024, 7, 31, 12, tzinfo=UTC),
        ),
        ("2024-01-31", {"time_zone": "UTC"}, datetime(2024, 1, 31, tzinfo=UTC)),
        ("2024-01-31T12:00:00+08:00", {"time_zone": "UTC"}, datetime(2024, 1, 31, 4, tzinfo=UTC)),
        (
            "1706702400",
            {},
            "milliseconds since 1970 are expected, this looks like seconds: say --time-unit s",
        ),
        (
            "2024-01-31 13:00:00",
            {},
            "has no zone: say --time-zone UTC, or another as Europe/Berlin",
        ),
        ("yesterday", {}, "'yesterday' is no time; as 2026-01-31T12:00:00Z"),
        ("1e400", {}, "is no time"),
    ],
)
def test_a_time_is_read_or_the_option_named_that_would_read_it(
    here: Path, time: str, options: dict[str, str], moment: datetime | str
) -> None:
    found = rows(
        written("a.csv", f"user_id,type,occurred_at\nu,click,{time}\n"), "events", **options
    )[0]
    if isinstance(moment, str):
        assert isinstance(found, str)
        assert moment in found
    else:
        assert isinstance(found, dict)
        assert found["occurred_at"] == moment


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_the_separator_is_noticed(here: Path, delimiter: str) -> None:
    text = f'id{delimiter}title\n1{delimiter}"a{delimiter}b"\n2{delimiter}c\n3\n'
    assert rows(written("a.csv", text), "items") == [
        {"id": "1", "title": f"a{delimiter}b"},
        {"id": "2", "title": "c"},
        "has 1 columns, not 2",
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "gb18030", "shift_jis"])
def test_an_encoding_is_taken_as_said_and_never_guessed(here: Path, encoding: str) -> None:
    title = {"latin-1": "Größe", "gb18030": "水壶", "shift_jis": "やかん"}.get(
        encoding, "Größe 水壶"
    )
    file = written("a.csv", f"id,title\n1,{title}\n", encoding)
    assert rows(file, "items", encoding=encoding) == [{"id": "1", "title": title}]
    if encoding != "utf-8-sig":
        with pytest.raises(BadRequest, match=r"bytes that are no utf-8; .*--encoding"):
            rows(file, "items")


def test_a_line_of_json_that_is_no_utf8_costs_itself_only(here: Path) -> None:
    Path("a.jsonl").write_bytes(b'{"id": "1"}\n{"id": "\xff"}\n{"id": "3"}\n')
    assert rows("a.jsonl", "items") == [
        {"id": "1"},
        "not UTF-8, as JSON has to be; say --encoding if it is another",
        {"id": "3"},
    ]
    assert rows("a.jsonl", "items", encoding="latin-1") == [{"id": "1"}, {"id": "ÿ"}, {"id": "3"}]


def test_packed_files_are_read_and_a_zip_of_many_asks_which(here: Path) -> None:
    text = "id,title\n1,Kettle\n"
    Path("a.csv.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile("one.zip", "w") as archive:
        archive.writestr("in/items.csv", text)
    with zipfile.ZipFile("two.zip", "w") as archive:
        archive.writestr("in/items.csv", text)
        archive.writestr("in/events.csv", "x\n")
    for name in ("a.csv.gz", "one.zip", "two.zip:items.csv", "two.zip:in/items.csv"):
        assert rows(name, "items") == [{"id": "1", "title": "Kettle"}], name
    for name in ("two.zip", "two.zip:ghost.csv"):
        with pytest.raises(BadRequest, match=r"which of its files\? as two.zip:in/items.csv"):
            rows(name, "items")
    with open_feed("two.zip:in/items.csv", "items") as file:
        assert str(file.rejected) == "two.zip.items.csv.rejected.jsonl"


def test_an_archive_that_is_cut_short_is_told_in_words(here: Path) -> None:
    lines = "".join(f'{{"id": "{n}", "title": "{"x" * n}"}}\n' for n in range(500))
    Path("whole.jsonl").write_text(lines)
    packed = gzip.compress(lines.encode())
    Path("a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    Path("b.zip").write_bytes(b"PK\x03\x04 no archive")
    for name in ("a.jsonl.gz", "b.zip"):
        with pytest.raises(BadRequest, match=f"{name}: broken or cut short"):
            rows(name, "items")


def test_a_parquet_file_is_taken_with_its_types(here: Path) -> None:
    at = datetime(2024, 1, 31, 12, tzinfo=UTC)
    table = pa.table(
        {"user": ["u", "v"], "item_id": ["1", None], "when": [at, at], "x": [1.0, float("nan")]}
    )
    pyarrow.parquet.write_table(table, "log.parquet")
    with pytest.raises(
        BadRequest, match="--map user_id=user --map occurred_at=when --set type=purchase"
    ):
        rows("log.parquet", "events")
    options: dict[str, Any] = {
        "map": {"user_id": "user", "occurred_at": "when"},
        "set": {"type": "view"},
        "drop": frozenset("x"),
    }
    assert rows("log.parquet", "events", **options) == [
        {"user_id": "u", "item_id": "1", "occurred_at": at, "type": "view"},
        {"user_id": "v", "occurred_at": at, "type": "view"},
    ]


def test_a_mapping_reaches_into_objects_of_json(here: Path) -> None:
    written("a.jsonl", json.dumps({"product": {"sku": 7, "name": "Kettle"}, "n": 1}))
    options: dict[str, Any] = {
        "map": {"id": "product.sku", "title": "product.name"},
        "drop": frozenset(["product"]),
    }
    assert rows("a.jsonl", "items", **options) == [{"id": 7, "title": "Kettle", "n": 1}]


@pytest.mark.parametrize(
    ("feed", "text", "told"),
    [
        ("items", "sku,name,preis\n1,a,2\n", "try --map id=sku --map title=name (and --dry-run"),
        (
            "events",
            "uid,film,stars,when\n",
            "--map user_id=uid --map item_id=film --map value=stars --map occurred_at=when "
            "--set type=rating",
        ),
        (
            "events",
            "customer;sku\n",
            "--map user_id=customer --map item_id=sku --set type=purchase",
        ),
        (
            "events",
            "user_id,item_id\nu,1\n",
            "events need type; its columns are user_id, item_id; try --set type=purchase",
        ),
        ("users", "a,b\n", "users need user_id; its columns are a, b; try --map user_id=COLUMN"),
        (
            "items",
            '{"sku": "1", "name": "Kettle"}\n',
            "none of its keys (sku, name) is a field of ours; try --map id=sku --map title=name",
        ),
        ("items", "", "empty"),
        ("items", '[{"id": 1},\n', "not JSON"),
    ],
)
def test_a_file_without_our_names_is_answered_by_the_mapping(
    here: Path, feed: Feed, text: str, told: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        rows(written("a.data", text), feed)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--map", "title"], "--map title: NAME=VALUE is needed"),
        (["--map", "title=ghost", "--map", "id=a"], "no column 'ghost' (--map); it has a, b"),
        (["--time-zone", "Mars/Base"], "--time-zone: Mars/Base: no such time zone"),
        (["--encoding", "klingon"], "no such encoding"),
        (["--scale", "5:1"], "the lowest value, then the highest"),
        (["--scale", "5"], "--scale"),
        (["--mapping", "ghost.yaml"], "ghost.yaml: can't be read"),
        (["--mapping", "bad.yaml"], "bad.yaml: mapp: "),
    ],
)
def test_a_wrong_option_is_named(here: Path, options: list[str], told: str) -> None:
    written("bad.yaml", "mapp: {id: a}\n")
    answer = ingest("items", written("a.csv", "a,b\n1,2\n"), *options)
    assert answer.exit_code == 2
    assert told in " ".join(answer.output.replace("│", " ").split())


def test_an_event_column_that_has_no_field_is_refused_until_it_is_dropped(here: Path) -> None:
    file = written("a.csv", "user_id,item_id,type,quantity,shop\nu,1,purchase,2,Berlin\n")
    refused = ingest("events", file)
    assert refused.exit_code == 2
    assert (
        "no field for quantity, shop; leave out what they hold by --drop quantity --drop shop"
        in refused.output
    )
    dropped = " ".join(ingest("events", file, "--drop", "*").output.split())
    assert "1 accepted" in dropped
    assert "left out, as there is no room for it: quantity (1), shop (1)" in dropped


def test_an_excel_workbook_or_a_folder_is_refused_with_the_cure(here: Path) -> None:
    with zipfile.ZipFile("a.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    for name, told in (
        ("a.xlsx", "save it as 'CSV UTF-8'"),
        (".", "a folder"),
        ("ghost.csv", "no such file"),
    ):
        with pytest.raises(BadRequest, match=told):
            open_feed(name, "items")


def test_standard_input_is_read_once_whatever_its_size(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "id,title\n" + "".join(f"{n},{'x' * 100}\n" for n in range(2_000))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert len(rows("-", "items")) == 2_000
