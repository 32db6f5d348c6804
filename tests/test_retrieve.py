"""What the shipped weights of the sources promise."""

import random
import re
from typing import Any

import pytest

from eval.suite import STANDALONE
from service.build import Service
from service.config import HOUSE, Retrieve, Settings, WeightByHistory
from service.schema import RecommendRequest
from tests.conftest import Make

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
