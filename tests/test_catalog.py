import asyncio
import os
import zlib
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from lancedb.index import FTS

from service.catalog import (
    IN_FILTER,
    INDEX_FROM,
    TERMS_INDEX,
    Catalog,
    Kind,
    Scope,
    UserFactors,
    Vectors,
)
from service.embed import MultilingualEmbedder
from service.errors import BadRequest, CatalogBusy
from service.schema import Filter, Item
from tests.conftest import FILMS


async def opened(folder: Path, **filterable: str) -> Catalog:
    return await Catalog.open(
        folder / "c",
        embed=MultilingualEmbedder(),
        filterable=filterable or {"year": "int", "genre": "list"},  # type: ignore[arg-type]
    )


async def filled(folder: Path) -> Catalog:
    catalog = await opened(folder)
    await catalog.put([Item.model_validate(film) for film in FILMS])
    await catalog.backlog.embed()
    return catalog


async def test_search_finds_by_meaning_words_and_filter(tmp_path: Path) -> None:
    catalog = await filled(tmp_path)
    assert set(await catalog.search.by_text("scary horror", 3, Scope(), meant="scary horror")) == {
        "alien",
        "thing",
        "shining",
    }
    vector = (await catalog.vectors(["alien"]))["alien"]
    assert next(iter((await catalog.search.similar([vector], 2, Scope()))[0])) == "alien"
    filters = {
        "year": Filter(gte=1995),
        "genre": Filter(any=["Romance"]),
        "id": Filter(none=["amelie"]),
    }
    assert set((await catalog.search.similar([vector], 9, Scope(filters=filters)))[0]) == {
        "notting",
        "sunrise",
    }


async def test_facets_are_the_values_and_how_far_numbers_go(tmp_path: Path) -> None:
    catalog = await opened(tmp_path, year="int", genre="list", signed="bool", price="float")
    assert (await catalog.facets()).ends == {}
    await catalog.put([Item.model_validate(film) for film in FILMS])
    facets = await catalog.facets()
    assert set(facets.values["genre"][:3]) == {"Horror", "Sci-Fi", "Romance"}
    assert facets.ends == {"year": (1979, 1999)}  # of 1972 79 80 82 95 95 99 2001
    assert (facets.counts["genre", "Horror"], facets.total) == (3, len(FILMS))
    await catalog.put([Item(id="new", title="New", attributes={"genre": ["Horror"]})])
    lately = await catalog.facets_lately()
    assert lately.total == len(FILMS), "counting reads whole columns, and can wait"
    assert (await catalog.facets()).counts["genre", "Horror"] == 4
    assert (await catalog.facets_lately()).total == len(FILMS) + 1


async def test_excluded_items_take_no_place_however_many_they_are(tmp_path: Path) -> None:
    catalog = await filled(tmp_path)
    many = frozenset({"alien", "thing", *(f"ghost{n}" for n in range(IN_FILTER + 1))})
    vector = (await catalog.vectors(["alien"]))["alien"]
    for exclude in (frozenset({"alien", "thing"}), many):
        found, twice = await catalog.search.similar([vector, vector], 3, Scope(exclude=exclude))
        assert found == twice
        assert len(found) == 3
        assert not {"alien", "thing"} & set(found)


@pytest.mark.parametrize(
    "value", ["' OR true OR '", "x'); DROP TABLE items; --", "\\' OR 1=1", '"', "%"]
)
async def test_a_filter_value_is_a_value_whatever_it_says(tmp_path: Path, value: str) -> None:
    catalog = await filled(tmp_path)
    assert await catalog.search.some(9, Scope(filters={"genre": Filter(any=[value])})) == []
    await catalog.put(
        [Item(id=f"x{value}".replace("/", ""), title="odd", attributes={"genre": [value]})]
    )
    assert len(await catalog.search.some(9, Scope(filters={"genre": Filter(any=[value])}))) == 1
    assert await catalog.count() == len(FILMS) + 1


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"colour": Filter(any=["red"])}, "colour"),
        ({"year": Filter(gte="old")}, "not a int"),
        ({"year": Filter(gte=2**70)}, "not a int"),
        ({"genre": Filter(gt="A")}, "ordered"),
        ({"year": Filter()}, "no condition"),
    ],
)
async def test_a_wrong_filter_is_named(
    tmp_path: Path, filters: dict[str, Filter], told: str
) -> None:
    catalog = await filled(tmp_path)
    with pytest.raises(BadRequest, match=told):
        await catalog.search.some(3, Scope(filters=filters))


async def test_another_process_sees_writes_at_once_and_upserts_make_no_twins(
    tmp_path: Path,
) -> None:
    one, two = await filled(tmp_path), await opened(tmp_path)
    await one.put([Item(id="new", title="New")])
    assert (await one.get(["new"]))["new"].title == "New"
    await two.put([Item(id="new", title="Newer")])
    assert (await one.get(["new"]))["new"].title == "Newer"
    assert await one.count() == len(FILMS) + 1


async def test_a_changed_text_is_embedded_again_and_a_changed_flag_is_not(tmp_path: Path) -> None:
    catalog = await filled(tmp_path)
    alien = Item.model_validate(FILMS[0])
    await catalog.put([alien.model_copy(update={"available": False})])
    assert await catalog.backlog.count() == 0
    assert await catalog.search.admitted(["alien", "thing"], Scope()) == ["thing"]
    await catalog.put([alien.model_copy(update={"title": "Aliens"})])
    assert await catalog.backlog.count() == 1


async def test_a_newly_declared_filter_works_on_old_items(tmp_path: Path) -> None:
    first = await opened(tmp_path, year="int")
    await first.put([Item.model_validate(film) for film in FILMS])
    later = await opened(tmp_path, year="int", genre="list")
    assert set(await later.search.some(9, Scope(filters={"genre": Filter(any=["Horror"])}))) == {
        "alien",
        "thing",
        "shining",
    }


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        *(
            ("int", 1999, 1999),
            ("int", 1999.0, 1999),
            ("int", "1999", 1999),
            ("int", "1999.0", 1999),
            ("int", [1999], 1999),
        ),
        *(
            ("int", "old", None),
            ("int", 1.5, None),
            ("int", True, None),
            ("int", 2**63, None),
            ("int", [1, 2], None),
        ),
        *(
            ("float", "12.5", 12.5),
            ("float", 12, 12),
            ("float", "cheap", None),
            ("float", "nan", None),
        ),
        *(("str", 7, "7"), ("str", "x", "x"), ("str", ["x", "y"], None), ("str", True, None)),
        *(
            ("bool", "TRUE", True),
            ("bool", 0, False),
            ("bool", "maybe", None),
            ("bool", False, False),
        ),
        *(
            ("list", "Drama", "Drama"),
            ("list", ["Drama", 3], ["Drama", "3"]),
            ("list", [True], None),
        ),
    ],
)
async def test_a_declared_attribute_is_taken_in_its_type_or_left_out(
    tmp_path: Path, kind: Kind, value: Any, fits: Any
) -> None:
    catalog = await opened(tmp_path, key=kind)
    misfits: list[tuple[str, str, Any]] = []
    attributes = catalog.fitted({"key": value, "other": 1}, lambda *misfit: misfits.append(misfit))
    assert attributes == ({"other": 1} if fits is None else {"key": fits, "other": 1})
    assert misfits == ([("key", kind, value)] if fits is None else [])


async def test_a_filter_matches_words_in_any_case_and_ids_as_they_are(tmp_path: Path) -> None:
    catalog = await opened(tmp_path, brand="str", genre="list")
    for name, brand in (("a", "Weiß"), ("b", "WEISS"), ("c", "ÉCLAIR"), ("d", "ключ")):
        await catalog.put([Item(id=name, attributes={"brand": brand, "genre": [brand, "Odd"]})])

    async def admitted(**filters: Filter) -> set[str]:
        return {
            *await catalog.search.some(9, Scope(filters=filters)),
            *await catalog.search.admitted("abcdABCD", Scope(filters=filters)),
        }

    for key in ("brand", "genre"):
        assert await admitted(**{key: Filter(any=["weiss", "Éclair"])}) == {"a", "b", "c"}
        assert await admitted(**{key: Filter(none=["weiß", "КЛЮЧ"])}) == {"c"}
    assert await admitted(brand=Filter(gt="WEISS"), genre=Filter(any=["ODD"])) == {"c", "d"}
    assert await admitted(id=Filter(any=["A", "b"])) == {"b"}
    assert (await catalog.facets()).values["brand"] == ["Weiß", "WEISS", "ÉCLAIR", "ключ"]


async def test_a_catalogue_made_before_words_were_folded_is_filtered_alike(tmp_path: Path) -> None:
    await filled(tmp_path)
    database = await lancedb.connect_async(tmp_path / "c")
    await (await database.open_table("items")).drop_columns(["folded_genre"])
    again = await opened(tmp_path)
    assert set(await again.search.some(9, Scope(filters={"genre": Filter(any=["horror"])}))) == {
        "alien",
        "thing",
        "shining",
    }
    assert await again.backlog.count() == 0


async def test_indexes_and_compaction_leave_search_as_it_was(tmp_path: Path) -> None:
    catalog = await filled(tmp_path)
    romances = {"notting", "amelie", "sunrise"}
    assert set(await catalog.search.by_text("romance", 3, Scope(), meant="romance")) == romances
    await catalog.indexes.tidy()
    assert set(await catalog.search.by_text("romance", 3, Scope(), meant="romance")) == romances


def axes(**places: float) -> dict[str, Vectors]:
    """Factors along the first of four axes, so far as told."""
    return {
        item_id: np.array([place, 0, 0, 0], dtype=np.float32) for item_id, place in places.items()
    }


async def with_factors(folder: Path, count: int = 4) -> Catalog:
    catalog = await Catalog.open(
        folder / "c", embed=Dice(), filterable={"year": "int", "genre": "list"}, factors=count
    )
    await catalog.put([Item.model_validate(film) for film in FILMS])
    await catalog.backlog.embed()
    return catalog


async def test_factors_are_searched_by_inner_product_within_the_scope(tmp_path: Path) -> None:
    catalog = await with_factors(tmp_path)
    assert await catalog.put_factors("1", axes(alien=3, thing=2, amelie=1, heat=-1, ghost=9)) == 4
    taste = UserFactors((1, 0, 0, 0), "1")
    order = ["alien", "thing", "amelie", "heat"]
    assert list(await catalog.search.favoured(taste, 9, Scope())) == order
    many = frozenset({"alien", *(f"ghost{n}" for n in range(IN_FILTER + 1))})
    for exclude in (frozenset({"alien"}), many):
        assert list(await catalog.search.favoured(taste, 2, Scope(exclude=exclude))) == [
            "thing",
            "amelie",
        ]
    assert list(
        await catalog.search.favoured(taste, 9, Scope(only=frozenset({"heat", "thing", "solaris"})))
    ) == ["thing", "heat"]
    assert list(
        await catalog.search.favoured(taste, 9, Scope(filters={"genre": Filter(any=["Romance"])}))
    ) == ["amelie"]
    await catalog.put([Item.model_validate({**FILMS[0], "available": False})])
    assert list(await catalog.search.favoured(taste, 1, Scope())) == ["thing"]


async def test_a_retraining_replaces_all_factors_at_once(tmp_path: Path) -> None:
    one, two = await with_factors(tmp_path), await with_factors(tmp_path)
    assert await one.factors(["alien"]) == ("", {})
    await one.put_factors("1", axes(alien=3, thing=2))
    assert (await two.factors(["alien", "heat"]))[0] == "1"
    await two.put_factors("2", axes(thing=1, heat=2))
    version, found = await one.factors(["alien", "thing", "heat"])
    assert (version, {item_id: float(vector[0]) for item_id, vector in found.items()}) == (
        "2",
        {"thing": 1, "heat": 2},
    )
    assert list(await one.search.favoured(UserFactors((1, 0, 0, 0), "2"), 9, Scope())) == [
        "heat",
        "thing",
    ]
    assert list(await one.search.favoured(UserFactors((1, 0, 0, 0), "1"), 9, Scope())) == []
    assert await one.put_factors("3", {}) == 0
    assert await two.factors(["thing"]) == ("", {})


async def test_what_nobody_likes_any_more_loses_its_factors_whatever_their_length(
    tmp_path: Path,
) -> None:
    """LanceDB takes lists of some length for vectors, and a missing one for a bad one."""
    catalog = await with_factors(tmp_path, 64)
    ones = np.ones(64, dtype=np.float32)
    await catalog.put_factors("1", {"alien": ones, "thing": ones})
    assert await catalog.put_factors("2", {"alien": ones}) == 1
    assert (await catalog.factors(["alien", "thing"]))[1].keys() == {"alien"}


async def test_a_changed_item_keeps_its_factors_and_a_vector_search_does_not_mind_them(
    tmp_path: Path,
) -> None:
    catalog = await with_factors(tmp_path)
    await catalog.put_factors("1", axes(alien=3))
    await catalog.put([Item.model_validate({**FILMS[0], "title": "Aliens"})])
    await catalog.backlog.embed()
    assert "alien" in (await catalog.factors(["alien"]))[1]
    vector = (await catalog.vectors(["alien"]))["alien"]
    assert list((await catalog.search.similar([vector], 1, Scope()))[0]) == ["alien"]
    assert len(await catalog.search.by_text("Aliens", 3, Scope(), meant="Aliens")) == 3


async def test_a_table_without_factors_or_with_others_gets_the_columns_when_opened(
    tmp_path: Path,
) -> None:
    await with_factors(tmp_path)
    table = await (await lancedb.connect_async(tmp_path / "c")).open_table("items")
    await table.drop_columns(["factors", "factors_of"])
    for count in (4, 3):
        catalog = await with_factors(tmp_path, count)
        assert await catalog.factors(["alien"]) == ("", {})
        assert await catalog.put_factors("1", {"alien": np.ones(count, dtype=np.float32)}) == 1
        assert list(await catalog.search.favoured(UserFactors((1,) * count, "1"), 5, Scope())) == [
            "alien"
        ]
        assert await catalog.count() == len(FILMS)
        assert await catalog.backlog.count() == 0


class Dice:
    """An embedding space of 32 dimensions in which a text's place follows from the text alone."""

    name, loaded, dimension = "dice", True, 32

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return np.array([self._vector(text) for text in texts], dtype=np.float32)

    async def embed_one(self, text: str) -> Vectors:
        return self._vector(text)

    async def counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Vectors, int]:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    def _vector(self, text: str) -> Vectors:
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        vector = rng.standard_normal(self.dimension, dtype=np.float32)
        unit: Vectors = vector / np.linalg.norm(vector)
        return unit


LARGE = INDEX_FROM if os.environ.get("HOSTILE") == "all" else 2_000


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many items get an index: as many as the product says in `make verify`, else fewer."""
    monkeypatch.setattr("service.catalog.search.RESIDENT", 0)
    monkeypatch.setattr("service.catalog.upkeep.INDEX_FROM", LARGE)
    return LARGE


async def test_a_catalogue_is_searched_in_memory_as_it_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = await with_factors(tmp_path)
    await catalog.put([Item(id="bare"), Item(id="gone", title="Gone", available=False)])
    await catalog.put_factors("1", axes(alien=3, thing=2, amelie=1, heat=-1, gone=7))
    vectors = [*(await catalog.vectors(["alien", "heat"])).values()]
    taste = UserFactors((1, 0, 0, 0), "1")
    scopes = [
        Scope(),
        Scope(exclude=frozenset({"alien", "nobody"})),
        Scope(only=frozenset({"heat", "gone", "nobody"})),
        Scope(filters={"genre": Filter(any=["Romance"])}),
        Scope(only=frozenset({"amelie", "gone"}), filters={"year": Filter(gte=1)}),
    ]

    async def answers() -> list[Any]:
        return [
            [
                *await catalog.search.similar(vectors, 20, scope),
                await catalog.search.favoured(taste, 20, scope),
                dict.fromkeys(await catalog.search.admitted(["gone", "heat", "x"], scope), 0.0),
            ]
            for scope in scopes
        ]

    resident = await answers()
    monkeypatch.setattr("service.catalog.search.RESIDENT", 0)
    await catalog.put([Item(id="another", title="Another")])  # what was held is of an older version
    await catalog.delete("another")
    for here, there in zip(resident, await answers(), strict=True):
        for mine, other in zip(here, there, strict=True):
            assert mine == pytest.approx(other, abs=1e-5)
            assert sorted(mine.values(), reverse=True) == list(mine.values())


async def test_a_large_catalogue_gets_a_vector_index_that_finds_what_is_near(
    tmp_path: Path, large: int
) -> None:
    embed = Dice()
    catalog = await Catalog.open(tmp_path / "c", embed=embed, filterable={})
    titles = [f"film {n}" for n in range(large)]
    await catalog.put([Item(id=f"i{n}", title=title) for n, title in enumerate(titles)])
    await catalog.backlog.embed()
    await catalog.indexes.tidy()
    assert "vector" in {
        column for index in await catalog._table.lance.list_indices() for column in index.columns
    }
    await catalog.put([Item(id="late", title="came after the index")])
    await catalog.backlog.embed()
    space = await embed.embed(titles)
    asked = [await embed.embed_one("somewhere"), await embed.embed_one("came after the index")]
    near, late = await catalog.search.similar(asked, 20, Scope(exclude=frozenset({"i0"})))
    exact = [f"i{n}" for n in np.argsort(-(space @ asked[0])) if n != 0][:20]
    assert len(set(near) & set(exact)) >= 18
    assert next(iter(late)) == "late"


async def test_a_large_catalogue_finds_what_is_favoured(tmp_path: Path, large: int) -> None:
    rng = np.random.default_rng(0)
    catalog = await Catalog.open(tmp_path / "c", embed=Dice(), filterable={}, factors=32)
    await catalog.put([Item(id=f"i{n}") for n in range(large)])
    for version in ("1", "2"):  # the second training goes into an index made for the first
        lengths = rng.gamma(1, 1, (large, 1))  # a few are liked by many
        space = (rng.standard_normal((large, 32)) * lengths).astype(np.float32)
        await catalog.put_factors(version, {f"i{n}": space[n] for n in range(large)})
        await catalog.indexes.tidy()
        asked = rng.standard_normal(32)
        exact = [f"i{n}" for n in np.argsort(-(space @ asked))][:50]
        found = list(
            await catalog.search.favoured(
                UserFactors(tuple(asked.tolist()), version),
                50,
                Scope(exclude=frozenset({exact[0]})),
            )
        )
        assert len(set(found) & set(exact)) >= 45, (version, len(set(found) & set(exact)))


async def in_titles(folder: Path, titles: str) -> Catalog:
    """A catalogue of items whose ids are their titles, one a line; no embedder is asked."""
    catalog = await Catalog.open(folder / "c", embed=Dice(), filterable={})
    await catalog.put([Item(id=title, title=title) for title in titles.splitlines()])
    return catalog


@pytest.mark.parametrize(
    ("titles", "query", "right"),
    [
        ("七武士\n卧虎藏龙\n东京物语", "藏龙", "卧虎藏龙"),
        ("电热水壶\n保温杯\n紫砂茶壶", "热水", "电热水壶"),
        ("龙井绿茶礼盒\n咖啡壶\n水杯", "茶", "龙井绿茶礼盒"),
        ("紫砂茶壶\n玻璃花茶杯\n水壶", "想要一个泡茶的茶壶", "紫砂茶壶"),
        ("七人の侍\n羅生門\n東京物語", "侍", "七人の侍"),
        ("七人の侍\n羅生門\n日本映画史", "侍の話", "七人の侍"),
        ("雨月物語\n東京物語\n蛍の墓", "雨月", "雨月物語"),
        ("ワイヤレスイヤホン\n電気ケトル\n本棚", "ｹﾄﾙ", "電気ケトル"),
        ("살인의 추억\n기생충\n부산행", "살인", "살인의 추억"),
        ("녹차선물세트\n전기주전자\n양모담요", "주전자를", "전기주전자"),
        ("좋은 놈 나쁜 놈\n괴물\n아가씨", "놈", "좋은 놈 나쁜 놈"),
        ("ต้มยำกุ้ง\nองค์บาก\nแฟนฉัน", "กุ้ง", "ต้มยำกุ้ง"),
        ("หม้อหุงข้าวไฟฟ้า\nชาเขียวมะลิ\nร่มพับ", "ข้าว", "หม้อหุงข้าวไฟฟ้า"),
        ("ผ้าพันคอขนแกะ\nหูฟังไร้สาย\nร่ม", "ผ้าพันคอหน้าหนาว", "ผ้าพันคอขนแกะ"),
        ("Häuser am Meer\nDas Leben der Anderen\nLola rennt", "HÄUSER", "Häuser am Meer"),
        ("Große Straße\nDas Leben\nLola rennt", "GROSSE", "Große Straße"),
        ("Les Enfants du paradis\nLa Règle du jeu\nThe Tea", "enfant", "Les Enfants du paradis"),
        ("La Règle du jeu\nL'Été meurtrier\nLe Jour", "regle", "La Règle du jeu"),
        ("Thé vert\nThe Thing\nThe Tea", "thé", "Thé vert"),
        ("Война и мир\nЁлка\nЛетят журавли", "елка", "Ёлка"),
        ("Война и мир\nАнна Каренина\nЛетят журавли", "ВОЙНА", "Война и мир"),
        ("كتاب الحكايات\nغلاية كهربائية\nبيت الأشباح", "كِتَاب", "كتاب الحكايات"),
        ("हिन्दी किताबें\nचाय की केतली\nऊन", "हिन्दी", "हिन्दी किताबें"),
        ("Electric kettles\nThe Kite Runner\nHeat", "KETTLE", "Electric kettles"),
        ("Kettle 水壶\nKettle\n茶", "kettle 水壶", "Kettle 水壶"),
        ("Ｆｕｌｌ　Ｗｉｄｔｈ\nFoolish\nWide", "full width", "Ｆｕｌｌ　Ｗｉｄｔｈ"),
    ],
)
async def test_a_title_is_found_by_a_word_of_it_in_any_language(
    tmp_path: Path, titles: str, query: str, right: str
) -> None:
    catalog = await in_titles(tmp_path, titles)
    assert (await catalog.search.by_text(query, 3, Scope(), meant=None))[:1] == [right]
    await catalog.indexes.tidy()  # from the index now, before from what it does not hold yet
    assert (await catalog.search.by_text(query, 3, Scope(), meant=None))[:1] == [right]
    await catalog.backlog.embed()
    assert right in await catalog.search.by_text(query, 3, Scope(), meant=query)


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        "!!! …",
        "😀",
        "的",
        "The",
        "a'b\"c",
        "绿茶" * 1_000,
        "tea kettle " * 500,
        "x" * 5_000,
    ],
)
async def test_any_query_is_answered(tmp_path: Path, query: str) -> None:
    catalog = await in_titles(tmp_path, "绿茶\nTea kettle\nPlain")
    await catalog.backlog.embed()
    by_words = await catalog.search.by_text(query, 3, Scope(), meant=None)
    assert by_words == (["绿茶"] if "茶" in query else ["Tea kettle"] if "tea" in query else [])
    assert len(await catalog.search.by_text(query, 3, Scope(), meant=query or "x")) == 3


async def test_a_catalogue_with_an_older_index_gets_the_new_one_once(tmp_path: Path) -> None:
    catalog = await in_titles(tmp_path, "七人の侍\n羅生門")
    await catalog.backlog.embed()
    database = await lancedb.connect_async(tmp_path / "c", read_consistency_interval=timedelta(0))
    table = await database.open_table("items")
    await table.drop_columns(["terms"])
    await table.create_index("words", config=FTS())
    both = await asyncio.gather(
        *(Catalog.open(tmp_path / "c", embed=Dice(), filterable={}) for _ in range(2))
    )
    for opened_anew in both:
        assert await opened_anew.search.by_text("侍", 3, Scope(), meant=None) == ["七人の侍"]
        assert await opened_anew.backlog.count() == 0
    assert {index.name for index in await table.list_indices() if index.index_type == "FTS"} == {
        TERMS_INDEX
    }
    version = await table.version()
    await Catalog.open(tmp_path / "c", embed=Dice(), filterable={})
    assert await table.version() == version


async def test_writers_of_the_same_items_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each has a table of its own, as processes have: what Lance sees of them is the same."""
    films = [Item.model_validate(film) for film in FILMS]

    async def write(folder: Path) -> None:
        catalog = await Catalog.open(
            folder, embed=Dice(), filterable={"year": "int", "genre": "list"}
        )
        for film in films:
            await catalog.put([film, *films[:2]])
            await catalog.backlog.embed()
            await catalog.indexes.tidy()
        await catalog.delete("heat")
        await catalog.put(films)

    for n in range(3):
        folder = tmp_path / str(n)
        await asyncio.gather(*(write(folder) for _ in range(4)))
        catalog = await Catalog.open(
            folder, embed=Dice(), filterable={"year": "int", "genre": "list"}
        )
        await catalog.backlog.embed()
        assert [item.id for item in await catalog.page("", 99)] == sorted(film.id for film in films)
        assert set(await catalog.search.by_text("horror", 9, Scope(), meant=None)) == {
            "alien",
            "thing",
            "shining",
        }
        assert len(await catalog.vectors(film.id for film in films)) == len(films)


async def test_a_write_that_others_always_preempt_ends_as_busy_and_other_errors_as_they_are(
    tmp_path: Path,
) -> None:
    catalog = await in_titles(tmp_path, "Heat")
    tried = []

    async def preempted() -> None:
        tried.append(1)
        raise RuntimeError(
            "lance error: Retryable commit conflict for version 7: This CreateIndex transaction "
            "was preempted"
        )

    with pytest.raises(CatalogBusy):
        await catalog._table.commit(preempted, attempts=3)
    assert len(tried) == 3
    with pytest.raises(ValueError, match="no_such_column"):
        await catalog._table.commit(partial(catalog._table.lance.create_index, "no_such_column"))
