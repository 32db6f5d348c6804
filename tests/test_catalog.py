import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.catalog import IN_FILTER, INDEX_FROM, Catalog, Scope, Vectors
from service.embed import Embedder
from service.errors import BadRequest
from service.schema import Filter, Item
from tests.conftest import FILMS, MODELS


async def opened(folder: Path, **filterable: str) -> Catalog:
    embed = Embedder(MODELS / "minilm")
    return await Catalog.open(folder / "c", embed=embed, filterable=filterable or {"year": "int", "genre": "list"})  # type: ignore[arg-type]


async def filled(folder: Path) -> Catalog:
    catalog = await opened(folder)
    await catalog.put([Item.model_validate(film) for film in FILMS])
    await catalog.embed_pending()
    return catalog


async def test_search_finds_by_meaning_words_and_filter(tmp_path: Path) -> None:
    catalog = await filled(tmp_path)
    assert set(await catalog.search("scary horror", 3, Scope())) == {"alien", "thing", "shining"}
    vector = (await catalog.vectors(["alien"]))["alien"]
    assert (await catalog.similar([vector], 2, Scope()))[0][0] == "alien"
    filters = {"year": Filter(gte=1995), "genre": Filter(any=["Romance"]), "id": Filter(none=["amelie"])}
    assert set((await catalog.similar([vector], 9, Scope(filters=filters)))[0]) == {"notting", "sunrise"}


async def test_excluded_items_take_no_place_however_many_they_are(tmp_path: Path) -> None:
    catalog = await filled(tmp_path)
    many = frozenset({"alien", "thing", *(f"ghost{n}" for n in range(IN_FILTER + 1))})
    vector = (await catalog.vectors(["alien"]))["alien"]
    for exclude in (frozenset({"alien", "thing"}), many):
        found, twice = await catalog.similar([vector, vector], 3, Scope(exclude=exclude))
        assert found == twice
        assert len(found) == 3
        assert not {"alien", "thing"} & set(found)


@pytest.mark.parametrize("value", ["' OR true OR '", "x'); DROP TABLE items; --", "\\' OR 1=1", '"', "%"])
async def test_a_filter_value_is_a_value_whatever_it_says(tmp_path: Path, value: str) -> None:
    catalog = await filled(tmp_path)
    assert await catalog.some(9, Scope(filters={"genre": Filter(any=[value])})) == []
    await catalog.put([Item(id=f"x{value}".replace("/", ""), title="odd", attributes={"genre": [value]})])
    assert len(await catalog.some(9, Scope(filters={"genre": Filter(any=[value])}))) == 1
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
async def test_a_wrong_filter_is_named(tmp_path: Path, filters: dict[str, Filter], told: str) -> None:
    catalog = await filled(tmp_path)
    with pytest.raises(BadRequest, match=told):
        await catalog.some(3, Scope(filters=filters))


async def test_another_process_sees_writes_at_once_and_upserts_make_no_twins(tmp_path: Path) -> None:
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
    assert await catalog.backlog() == 0
    assert await catalog.admitted(["alien", "thing"], Scope()) == ["thing"]
    await catalog.put([alien.model_copy(update={"title": "Aliens"})])
    assert await catalog.backlog() == 1


async def test_a_newly_declared_filter_works_on_old_items(tmp_path: Path) -> None:
    first = await opened(tmp_path, year="int")
    await first.put([Item.model_validate(film) for film in FILMS])
    later = await opened(tmp_path, year="int", genre="list")
    assert set(await later.some(9, Scope(filters={"genre": Filter(any=["Horror"])}))) == {"alien", "thing", "shining"}


async def test_an_attribute_of_another_type_than_declared_is_refused(tmp_path: Path) -> None:
    catalog = await opened(tmp_path)
    with pytest.raises(BadRequest, match=r"attributes\.year"):
        catalog.check(Item(id="a", attributes={"year": "old"}))


async def test_indexes_and_compaction_leave_search_as_it_was(tmp_path: Path) -> None:
    catalog = await filled(tmp_path)
    romances = {"notting", "amelie", "sunrise"}
    assert set(await catalog.search("romance", 3, Scope())) == romances
    await catalog.tidy()
    assert set(await catalog.search("romance", 3, Scope())) == romances


class Dice:
    """An embedding space of 32 dimensions in which a text's place follows from the text alone."""

    name, dimension = "dice", 32

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return np.array([self._vector(text) for text in texts], dtype=np.float32)

    async def embed_one(self, text: str) -> Vectors:
        return self._vector(text)

    def _vector(self, text: str) -> Vectors:
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        vector = rng.standard_normal(self.dimension, dtype=np.float32)
        unit: Vectors = vector / np.linalg.norm(vector)
        return unit


async def test_a_large_catalogue_gets_a_vector_index_that_finds_what_is_near(tmp_path: Path) -> None:
    embed = Dice()
    catalog = await Catalog.open(tmp_path / "c", embed=embed, filterable={})
    titles = [f"film {n}" for n in range(INDEX_FROM)]
    await catalog.put([Item(id=f"i{n}", title=title) for n, title in enumerate(titles)])
    await catalog.embed_pending()
    await catalog.tidy()
    assert "vector" in {column for index in await catalog._table.list_indices() for column in index.columns}
    await catalog.put([Item(id="late", title="came after the index")])
    await catalog.embed_pending()
    space = await embed.embed(titles)
    asked = [await embed.embed_one("somewhere"), await embed.embed_one("came after the index")]
    near, late = await catalog.similar(asked, 20, Scope(exclude=frozenset({"i0"})))
    exact = [f"i{n}" for n in np.argsort(-(space @ asked[0])) if n != 0][:20]
    assert len(set(near) & set(exact)) >= 18
    assert late[0] == "late"
