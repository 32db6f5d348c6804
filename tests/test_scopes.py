"""One catalogue with things of several kinds: a domain ranks those of its scope."""

from contextlib import aclosing
from typing import Any

import pytest

from service.build import Service, build
from service.config import Settings
from service.errors import ConfigError
from service.schema import ChatReply, ChatRequest, RecommendRequest, Turn

PRODUCTS = [
    {"id": f"tea-{n}", "title": f"Green tea, {n} g", "attributes": {"kind": "product"}}
    for n in range(100, 106)
]
PEOPLE = [
    {"id": name, "title": name.title(), "text": text, "attributes": {"kind": "person"}}
    for name, text in {"mei": "hiking, tea", "otto": "coffee, bikes", "ada": "tea, chess"}.items()
]
BOUGHT = [
    {"user_id": f"u{n}", "item_id": f"tea-{100 + n % 5}", "type": "purchase"} for n in range(20)
]
SCOPES = {"shop": {"kind": {"any": ["Product"]}}, "friends": {"kind": {"any": ["person"]}}}


def scoped(settings: Settings, scopes: Any = SCOPES, **filterable: str) -> Settings:
    keys = filterable or {"kind": "str"}
    return settings.changed({"catalog": {"filterable": keys, "scopes": scopes}})


async def filled(settings: Settings) -> Service:
    service = await build(settings, llms={})
    await service.ingest.items([*PRODUCTS, *PEOPLE])
    await service.ingest.embed_pending()
    await service.ingest.events(BOUGHT)
    return service


async def ids(service: Service, **request: Any) -> list[str]:
    asked = RecommendRequest.model_validate({"strategy": "prior", **request})
    return [item.item_id for item in (await service.recommender.recommend(asked)).items]


async def test_a_domain_ranks_its_own_kind_for_everybody(settings: Settings) -> None:
    service = await filled(scoped(settings))
    people = {person["id"] for person in PEOPLE}
    for who in ({"user_id": "u1"}, {"user_id": "nobody"}, {}):
        for wish in ({}, {"instruction": "green tea"}):
            assert set(await ids(service, domain="friends", **who, **wish)) == people
            in_shop = await ids(service, domain="shop", **who, **wish)
            assert in_shop
            assert not people & set(in_shop)
    assert people < {*await ids(service, user_id="nobody", domain="movies")}, "it has no scope"
    await service.close()


async def test_a_request_narrows_its_domain_and_does_not_widen_it(settings: Settings) -> None:
    service = await filled(scoped(settings))
    person = {"kind": {"any": ["person"]}}
    assert len(await ids(service, domain="friends", filters=person)) == len(PEOPLE)
    ranking = await service.recommender.recommend(
        RecommendRequest.model_validate({"domain": "shop", "filters": person, "strategy": "prior"})
    )
    assert not ranking.items
    assert "filters: no item meets them" in ranking.warnings
    listed = {"candidates": ["mei", "tea-100"], "domain": "shop"}
    assert set(await ids(service, **listed)) == {"mei", "tea-100"}, "the caller's own choice"
    await service.close()


async def test_a_kind_that_the_catalogue_lacks_is_said(settings: Settings) -> None:
    service = await filled(scoped(settings, {"topics": {"kind": {"any": ["post"]}}}))
    ranking = await service.recommender.recommend(
        RecommendRequest(user_id="u1", domain="topics", strategy="prior")
    )
    assert not ranking.items
    assert ranking.warnings == ["domain topics: no item is of its kind (catalog.scopes.topics)"]
    await service.close()


async def test_items_that_come_or_change_kind_count_at_once(settings: Settings) -> None:
    service = await filled(scoped(settings))
    await service.ingest.items([{**PEOPLE[0], "attributes": {"kind": "product"}}])
    await service.ingest.items([{"id": "new", "title": "New", "attributes": {"kind": "PERSON"}}])
    assert set(await ids(service, domain="friends")) == {"otto", "ada", "new"}
    await service.close()


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        ({"shop": {"brand": {"any": ["x"]}}}, "catalog.scopes.shop: filters.brand: not filterable"),
        ({"shop": {"kind": {"any": [3]}}}, "catalog.scopes.shop: filters.kind: 3 is not a str"),
        ({"shop": {"kind": {}}}, "catalog.scopes.shop: filters.kind sets no condition"),
        ({"shop": {"kind": {"like": "x"}}}, "catalog.scopes.shop.kind.like"),
        ({"shop": ["kind"]}, "catalog.scopes.shop"),
    ],
)
async def test_a_scope_that_means_nothing_is_refused_at_start(
    settings: Settings, scopes: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        await build(scoped(settings, scopes), llms={})


async def test_a_chat_stays_in_its_domain(settings: Settings) -> None:
    service = await filled(scoped(settings))
    turns = [Turn(role="user", text="something with green tea")]
    asked = ChatRequest(turns=turns, domain="friends", user_id="u1", strategy="prior")
    async with aclosing(await service.chat.answer(asked)) as parts:
        replies = [part async for part in parts if isinstance(part, ChatReply)]
    assert replies[-1].ranking is not None
    picks = {item.item_id for item in replies[-1].ranking.items}
    assert picks
    assert picks <= {person["id"] for person in PEOPLE}
    await service.close()
