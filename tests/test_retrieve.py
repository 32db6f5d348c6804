"""What the shipped weights of the sources promise."""

import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eval.suite import STANDALONE
from service.build import Service, build
from service.config import HOUSE, SOURCES, Retrieve, Settings, WeightByHistory
from service.schema import RecommendRequest
from tests.conftest import FILMS, Make

SHELVES = {
    "tea": ("Green tea", "Black tea", "Oolong tea", "Jasmine tea", "Herbal tea"),
    "tool": ("Claw hammer", "Cordless drill", "Socket wrench", "Hand saw", "Screwdriver"),
    "yarn": ("Merino yarn", "Cotton yarn", "Knitting needles", "Crochet hook", "Alpaca wool"),
    "lamp": ("Desk lamp", "Floor lamp", "Ceiling light", "Light bulb", "Lamp shade"),
}
PRODUCTS = [
    {"id": f"{shelf}-{n}-{size}", "title": f"{name}, {size}", "attributes": {"shelf": shelf}}
    for shelf, names in SHELVES.items()
    for n, name in enumerate(names)
    for size in ("small", "medium", "large")
]


def purchases() -> list[dict[str, Any]]:
    """Ten people who buy lamps most of all, and two of a taste of their own; too few to learn from
    who likes the same."""
    dice = random.Random(0)
    lamps = [product["id"] for product in PRODUCTS if product["attributes"] == {"shelf": "lamp"}]
    crowd = [(f"u{n}", item) for n in range(10) for item in dice.sample(lamps, 8)]
    own = [
        (who, f"{shelf}-{n}-small")
        for who, shelf in (("ann", "tea"), ("bob", "tool"))
        for n in range(4)
    ]
    return [{"user_id": who, "item_id": item, "type": "like"} for who, item in [*crowd, *own]]


async def test_a_small_shop_shows_each_person_their_own_taste_before_the_best_sellers(
    make: Make, settings: Settings
) -> None:
    service = await make(films=PRODUCTS, changed=settings.changed({"service": {"domain": "shop"}}))
    await service.ingest.events(purchases())
    assert await service.jobs.trainer.train() == 0  # nobody's likes are enough for a factorisation
    for who, shelf in (("ann", "tea"), ("bob", "tool")):
        shelves = await shown(service, who)
        assert set(shelves[:3]) == {shelf}
        assert shelves.count(shelf) > shelves.count("lamp")
    assert set(await shown(service, "new")) == {"lamp"}


async def shown(service: Service, who: str) -> list[str]:
    """The shelves of the ten products that somebody is shown."""
    ranking = await service.recommender.recommend(
        RecommendRequest(user_id=who, top_n=10, strategy="prior", explain="none")
    )
    return [item.item_id.split("-")[0] for item in ranking.items]


PAGES = ("ranking", "groceries")
SHIPPED = ("prior", f"likelihood:{Settings.load(HOUSE / 'configs' / 'cpu.yaml').roles.score}")
"""What `configs/cpu.yaml` answers by: the model's way where a page has it, and the prior wherever
no model is asked."""


@pytest.mark.parametrize("name", PAGES)
def test_no_shipped_default_is_measured_below_one_of_its_sources(name: str) -> None:
    """By more than its interval; on all of the cases, with the weights that are shipped."""
    page = (HOUSE / "docs" / f"{name}.md").read_text()
    asked = re.search(r"^Asked: (\d+) of (\d+) cases", page, flags=re.MULTILINE)
    assert asked is not None
    assert asked[1] == asked[2]
    shipped = ", ".join(f"{source} {in_words(weight)}" for source, weight in weights(name).items())
    assert f"configured weights: {shipped}." in page
    header, rows = differences(page)
    assert header == [f"− {name}" for name in STANDALONE]
    assert "prior" in rows
    for arm in rows.keys() & {*SHIPPED}:
        highs = [float(re.findall(r"…([-+][\d.]+)\)", cell)[0]) for cell in rows[arm]]
        assert [
            (source, high) for source, high in zip(header, highs, strict=True) if high < 0
        ] == [], arm


def weights(page: str) -> dict[str, WeightByHistory]:
    return Retrieve().of("shop" if page == "groceries" else "movies")


def in_words(weight: WeightByHistory) -> str:
    return "/".join(f"{part:g}" for part in (weight if isinstance(weight, tuple) else (weight,)))


def differences(page: str) -> tuple[list[str], dict[str, list[str]]]:
    """Header and rows, by arm, of the table that stands under the weights."""
    table = re.search(r"configured weights: .*\n\n((?:\|.*\n)+)", page)
    assert table is not None
    first, _, *lines = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")] for line in table[1].splitlines()
    ]
    return first[1:], {line[0]: line[1:] for line in lines}


async def test_what_rises_and_what_is_new_are_sources_of_their_own(
    make: Make, settings: Settings
) -> None:
    dates = {"heat": "2026-03-01", "solaris": "2026-02-01", "alien": "2026-01-01"}
    published = {film: {"published_at": f"{date}T00:00:00Z"} for film, date in dates.items()}
    films = [film | published.get(str(film["id"]), {}) for film in FILMS]
    service = await make(films=films)
    now = datetime.now(UTC)
    always = [
        {"user_id": f"u{n}", "item_id": "thing", "occurred_at": now - timedelta(days=n)}
        for n in range(100)
    ]
    lately = [
        {"user_id": f"v{n}", "item_id": item, "occurred_at": now - timedelta(hours=n)}
        for n in range(9)
        for item in ("amelie", *(["sunrise"] if n < 4 else []))
    ]
    await service.ingest.events([{"type": "like", **event} for event in always + lately])

    async def first(source: str, **request: Any) -> list[str]:
        weights = {name: float(name == source) for name in SOURCES}
        asked = RecommendRequest(strategy="prior", explain="full", **request)
        only = await build(settings.changed({"retrieve": weights}), llms={})
        ranking = await only.recommender.recommend(asked)
        await only.close()
        named = f"source.{source}"
        return [item.item_id for item in ranking.items if named in item.signals]

    assert await first("trending") == ["amelie", "sunrise"]
    assert await first("trending", exclude=["amelie"]) == ["sunrise"]
    assert await first("trending", candidates=["thing", "sunrise", "ghost"]) == ["sunrise"]
    assert await first("fresh") == ["heat", "solaris", "alien"]
    assert await first("fresh", filters={"year": {"any": [1972, 1979]}}) == ["solaris", "alien"]
    assert await first("fresh", candidates=["alien", "thing", "heat"]) == ["heat", "alien"]
