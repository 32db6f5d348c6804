"""The invented data, as a stranger gets them: by the command, from files."""

import csv
import re
import shlex
from collections import Counter
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.config import HOUSE, Settings
from service.feeds.files import open_feed
from service.schema import Feed, RecommendRequest
from tests.conftest import Make

TITLE_BYTES = 64
"""What a prompt of the default `rank.line_tokens` shows of a title before it cuts it."""
NEWCOMERS = {"tom", "xiaoyu", "ines", "minmin", "ruth"}
Rows = list[dict[str, str]]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def made(folder: Path, *options: str) -> tuple[Rows, Rows, Rows]:
    """Products, people and events of the sample shop."""
    assert run("data", "sample", "shop", "--out", str(folder), *options).exit_code == 0
    names = ("products.csv", "people.csv", "events.csv")
    products, people, events = (
        list(csv.DictReader(StringIO((folder / name).read_text()))) for name in names
    )
    return products, people, events


def words_of(product: dict[str, str]) -> set[str]:
    return {product["category"], product["kind"], *product["good_for"].split("|")}


def chinese(text: str) -> int:
    return len(re.findall(r"[\u4e00-\u9fff]", text))


def test_without_a_name_the_samples_are_listed_and_an_unknown_name_lists_them_too(
    tmp_path: Path,
) -> None:
    listed = run("data", "sample")
    assert listed.exit_code == 0
    assert "60 products in English and Chinese" in " ".join(listed.output.replace("│", " ").split())
    unknown = run("data", "sample", "films", "--out", str(tmp_path / "films"))
    assert (unknown.exit_code, "known: shop" in unknown.output) == (2, True)
    assert not (tmp_path / "films").exists()
    assert run("data", "groceries", "shop").exit_code == 2


def test_the_same_seed_makes_the_same_bytes_and_another_seed_other_events(tmp_path: Path) -> None:
    for name, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        made(tmp_path / name, "--seed", seed)
    files = ("products.csv", "people.csv", "events.csv")
    one, again, other = (
        [(tmp_path / name / file).read_bytes() for file in files]
        for name in ("one", "again", "other")
    )
    assert one == again
    assert [before == after for before, after in zip(one, other, strict=True)] == [
        True,
        True,
        False,
    ]


def test_somebody_s_own_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("id,title\nmine,My own\n")
    refused = run("data", "sample", "shop", "--out", str(tmp_path))
    assert (refused.exit_code, "--out" in refused.output) == (2, True)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        ("products.csv", "id,title\nmine,My own\n")
    ]


def test_the_shop_sells_sixty_things_in_two_languages(tmp_path: Path) -> None:
    products, _, _ = made(tmp_path)
    assert Counter(Counter(one["category"] for one in products).values()) == {10: 6}
    prices = [int(one["price"]) for one in products]
    assert (min(prices), max(prices)) == (12, 700)
    assert 3 <= sum(one["available"] == "false" for one in products) <= 8
    assert all((one["stock"] == "0") == (one["available"] == "false") for one in products)
    assert sum(one["lasts_days"] != "" for one in products) >= 15
    for one in products:
        english, mandarin = one["text"].split("\n")
        assert len(english.split()) >= 15
        assert chinese(english) == 0
        assert chinese(mandarin) >= 20
        assert chinese(one["title"]) >= 3
        assert len(one["title"].encode()) <= TITLE_BYTES
    assert len({one["text"] for one in products}) == len({one["title"] for one in products}) == 60


@pytest.mark.parametrize("seed", ["1", "2"])
def test_people_do_what_they_are_said_to_like_in_six_weeks_that_are_over(
    tmp_path: Path, seed: str
) -> None:
    products, people, events = made(tmp_path, "--seed", seed)
    shop = {one["id"]: one for one in products}
    times = [datetime.fromisoformat(event["occurred_at"]) for event in events]
    assert times == sorted(times)
    assert max(times) < datetime(2026, 6, 1, tzinfo=UTC)
    assert 35 <= (max(times) - min(times)).days <= 42
    assert {event["type"] for event in events} == {
        *(
            "view",
            "add_to_cart",
            "remove_from_cart",
            "purchase",
            "search",
            "comment",
            "rating",
            "return",
        )
    }
    by = {
        one["user_id"]: [event for event in events if event["user_id"] == one["user_id"]]
        for one in people
    }
    assert sum(map(len, by.values())) == len(events)
    assert len(people) == 30
    assert {user for user, did in by.items() if len(did) <= 2} == NEWCOMERS
    for user in by.keys() - NEWCOMERS:
        bought = [event["item_id"] for event in by[user] if event["type"] == "purchase"]
        commonest = Counter(word for item in bought for word in words_of(shop[item])).most_common(
            1
        )[0][1]
        assert commonest >= len(bought) / 3, user  # a taste that can be seen
        assert any(event["type"] == "search" and event["text"] for event in by[user])
        assert any(event["type"] == "comment" and event["text"] for event in by[user])
    searches = [event["text"] for event in events if event["type"] == "search"]
    assert 20 < sum(chinese(text) > 0 for text in searches) < len(searches) - 20


def test_what_is_used_up_is_bought_again_and_what_disappoints_is_not(tmp_path: Path) -> None:
    products, _, events = made(tmp_path)
    shop = {one["id"]: one for one in products}
    bought = Counter(
        (event["user_id"], event["item_id"]) for event in events if event["type"] == "purchase"
    )
    again = {pair for pair, times in bought.items() if times > 1}
    assert len(again) >= 20
    assert [pair for pair in again if not shop[pair[1]]["lasts_days"]] == []
    rated = {
        (event["user_id"], event["item_id"]): int(event["value"])
        for event in events
        if event["type"] == "rating"
    }
    assert len(rated) >= 40
    assert rated.keys() <= bought.keys()
    returned = {
        (event["user_id"], event["item_id"]) for event in events if event["type"] == "return"
    }
    assert returned == {pair for pair, stars in rated.items() if stars <= 2} != set()
    assert not again & returned
    for event in events:
        item = shop.get(event["item_id"])
        assert item is None or event["occurred_at"] > item["published_at"]


STEPS = (1, 2, 5)
"""After so many events of theirs a newcomer asks."""


async def test_a_newcomer_to_the_shop_sees_their_own_category_and_not_their_cart(
    tmp_path: Path, make: Make, settings: Settings
) -> None:
    """Eight people whom the log does not know do their first one, two and five things again. Their
    own category is the commonest of those; on average it fills three of the first five places, and
    of what is popular one at most."""
    products, people, _ = made(tmp_path, "--seed", "3")
    category = {product["id"]: product["category"] for product in products}
    strangers = [one["user_id"] for one in people if one["user_id"] not in NEWCOMERS][::3]
    events = sorted(rows_of(tmp_path, "events"), key=lambda event: event["occurred_at"])
    shop = Settings.load(HOUSE / "configs" / "shop.yaml")
    own = {"service": shop.service.model_dump(), "catalog": shop.catalog.model_dump()}
    service = await make(
        films=rows_of(tmp_path, "items", "products"), changed=settings.changed(own)
    )
    await service.ingest.events([one for one in events if one["user_id"] not in strangers])
    assert await service.jobs.trainer.train() > 0

    async def first_five(who: str) -> list[str]:
        request = RecommendRequest(user_id=who, top_n=5, strategy="prior", explain="none")
        return [item.item_id for item in (await service.recommender.recommend(request)).items]

    best_sellers = await first_five("nobody")
    counts: dict[int, list[int]] = {step: [] for step in STEPS}
    popular = []
    for who in strangers:
        did = [one for one in events if one["user_id"] == who and one.get("item_id")]
        for step in STEPS:
            begun = [{**one, "user_id": f"{who} {step}"} for one in did[:step]]
            await service.ingest.events(begun)
            categories = Counter(category[one["item_id"]] for one in begun)
            shown = await first_five(f"{who} {step}")
            last = {one["item_id"]: one["type"] for one in begun if "cart" in one["type"]}
            in_cart = {item for item, kind in last.items() if kind == "add_to_cart"}
            assert not in_cart & {*shown}
            mine = categories.most_common(1)[0][0]
            counts[step].append(sum(category[item] == mine for item in shown))
            popular.append(sum(category[item] == mine for item in best_sellers))
    means = {step: sum(of) / len(of) for step, of in counts.items()}
    assert min(means.values()) >= 3, means
    assert sum(popular) / len(popular) <= 1.2


WISHES = {
    "Windeln für ein Neugeborenes": "baby",
    "couches pour bébé": "baby",
    "おむつ": "baby",
    "une théière": "tea",
    "зелёный чай": "tea",
    "granos de café": "coffee",
    "caffè in grani": "coffee",
    "tenda per due": "camping",
    "帐篷": "camping",
}


async def test_a_wish_in_another_language_finds_what_it_means(
    tmp_path: Path, make: Make, settings: Settings
) -> None:
    """Of somebody whom nobody knows, in a shop with its best sellers. Titles are English and
    Chinese; for eight of nine wishes two of the first three are of the category that is meant (not
    for "couches pour bébé", whose first word has other senses)."""
    products, _, _ = made(tmp_path)
    category = {product["id"]: product["category"] for product in products}
    service = await make(films=rows_of(tmp_path, "items", "products"), changed=settings)
    await service.ingest.events(rows_of(tmp_path, "events"))
    found = {}
    for wish in WISHES:
        request = RecommendRequest(instruction=wish, top_n=3, strategy="prior", explain="none")
        ranking = await service.recommender.recommend(request)
        found[wish] = [category[item.item_id] for item in ranking.items]
    missed = {wish: shown for wish, shown in found.items() if shown.count(WISHES[wish]) < 2}
    assert len(missed) <= 1, missed


async def test_what_somebody_unknown_looks_at_says_more_than_the_best_sellers(
    tmp_path: Path, make: Make, settings: Settings
) -> None:
    products, _, _ = made(tmp_path)
    category = {product["id"]: product["category"] for product in products}
    service = await make(films=rows_of(tmp_path, "items", "products"), changed=settings)
    await service.ingest.events(rows_of(tmp_path, "events"))

    same = 0
    for item in category:
        request = RecommendRequest(context_items=[item], top_n=5, strategy="prior", explain="none")
        ranking = await service.recommender.recommend(request)
        same += sum(category[other.item_id] == category[item] for other in ranking.items)
    assert same / 5 / len(category) >= 0.65


def rows_of(folder: Path, feed: Feed, name: str | None = None) -> list[dict[str, Any]]:
    with open_feed(folder / f"{name or feed}.csv", feed) as file:
        return [line.row for line in file.lines if line.row is not None]


@pytest.fixture
def section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The README's page for a first run, read where its commands can be typed: with the embedder,
    without a network."""
    text = (
        (HOUSE / "README.md")
        .read_text()
        .split("## Your own shop in four commands\n")[1]
        .split("\n## ")[0]
    )
    monkeypatch.chdir(tmp_path)
    for name, value in re.findall(r"export (WHYRANK_\w+)=([\w./]+)", text):
        monkeypatch.setenv(name, value)
    (tmp_path / "configs").symlink_to(HOUSE / "configs")
    return text


def blocks(section: str, language: str) -> list[str]:
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


def typed(block: str) -> list[Result]:
    lines = [shlex.split(line, comments=True) for line in block.strip().splitlines()]
    assert {words[0] for words in lines} == {"whyrank"}
    return [run(*words[1:]) for words in lines]


def test_the_four_commands_of_the_readme_end_in_the_list_that_it_shows(section: str) -> None:
    answers = typed(blocks(section, "sh")[0])
    assert [answer.exit_code for answer in answers] == [0] * 4
    assert "items: 60 accepted\n" in answers[1].output
    rows = len(Path("shop/events.csv").read_text().splitlines()) - 1
    assert f"events: {rows} accepted\n" in answers[2].output
    wanted = titles(blocks(section, "")[0])
    assert titles(answers[3].output) == wanted, (
        f"the README shows another list than:\n{answers[3].output}"
    )
    assert "30 accepted\n" in run("ingest", "users", "shop/people.csv").output


def test_columns_of_other_names_are_taken_as_the_readme_maps_them(section: str) -> None:
    Path("goods.csv").write_text("sku,name,price\nk1,Kettle,299\n")
    Path("log.csv").write_text(
        "customer,sku,action,occurred_at\nann,k1,purchase,2026-05-01 10:00\n"
    )
    for answer in typed(blocks(section, "sh")[1]):
        assert "1 would be taken" in answer.output


def titles(table: str) -> list[str]:
    """The titles in a list as the terminal shows it; a row without a number goes on with the one
    before."""
    found: list[str] = []
    for line in table.splitlines():
        _, number, title, *_ = [*(cell.strip() for cell in line.split("│")), "", ""]
        if number:
            found.append(title)
        elif title:
            found[-1] += f" {title}"
    return found
