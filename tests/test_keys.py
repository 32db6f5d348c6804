import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.routing import Route
from structlog.testing import capture_logs

from service.api import create_app
from service.api.edge import OPEN, SCOPES
from service.build import open_store
from service.config import Settings
from service.errors import ConfigError
from service.schema import ApiKey, KeyScope
from service.store import Store
from tests.conftest import Make
from tests.test_api import KEY, served

Serve = Callable[[Any], Any]
NOW = datetime.now(UTC)
ASKED = "/v1/items/alien"
NEVER: dict[KeyScope, list[KeyScope]] = {
    "read": ["write"],
    "write": ["read"],
    "admin": ["read", "write"],
}
"""For what a key is that doesn't do."""


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """As another process has it."""
    with closing(open_store(settings)) as opened:
        yield opened


async def key(store: Store, name: str, *scopes: KeyScope, **more: Any) -> dict[str, str]:
    """The header of a new key."""
    return {
        "authorization": f"Bearer "
        f"{await store.keys.create(ApiKey(name=name, scopes=scopes or ('read',), **more))}"
    }


def routes(settings: Settings) -> list[tuple[str, str]]:
    """(method, path) of all that the service answers to."""
    found = create_app(settings).routes
    plain = [route for route in found if isinstance(route, Route)]
    assert len(plain) == len(found)
    return [
        (method, route.path) for route in plain for method in (route.methods or set()) - {"HEAD"}
    ]


async def test_every_route_says_what_a_key_must_be_good_for_and_asks_for_it(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    declared = {f"{method} {path}" for method, path in routes(settings)}
    assert declared == {*SCOPES, *OPEN}
    keys = {scope: await key(store, f"not {scope}", *others) for scope, others in NEVER.items()}
    good = {scope: await key(store, f"just {scope}", scope) for scope in NEVER}
    async with await served(make, serve, settings) as client:
        for method, path in routes(settings):
            if f"{method} {path}" in OPEN:
                continue
            scope, url = SCOPES[f"{method} {path}"], path.replace("{", "").replace("}", "")
            anonymous, other, right = [
                await client.request(method, url, headers=one)
                for one in ({}, keys[scope], good[scope])
            ]
            assert (anonymous.status_code, anonymous.json()["error"]["code"]) == (
                401,
                "unauthorized",
            ), path
            assert (other.status_code, other.json()["error"]["code"]) == (403, "forbidden"), path
            assert other.json()["error"]["type"] == "permission_error"
            assert right.status_code not in {401, 403}, path
        admin = await key(store, "admin", "admin")
        assert [
            (await client.get(path, headers=admin)).status_code for path in ("/metrics", ASKED)
        ] == [200, 200]
        assert (await client.head("/docs", headers=good["read"])).status_code == 200


async def test_the_first_key_closes_an_open_service_at_once_and_no_revocation_opens_it(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    async with await served(make, serve, settings) as client:
        assert (
            await client.get(ASKED, headers={"authorization": "Bearer whatever"})
        ).status_code == 200
        mine = await key(store, "mine")
        assert (await client.get(ASKED)).status_code == 401
        assert (await client.get(ASKED, headers=mine)).status_code == 200
        await store.keys.revoke("mine", NOW)
        assert [(await client.get(ASKED, headers=one)).status_code for one in (mine, {})] == [
            401,
            401,
        ]
        assert (await client.get("/readyz")).status_code == 200


async def test_an_expired_key_is_answered_as_a_wrong_one(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    late = await key(
        store, "late", created_at=NOW - timedelta(days=2), expires_at=NOW - timedelta(days=1)
    )
    soon = await key(store, "soon", expires_at=NOW + timedelta(hours=1))
    wrong = {"authorization": soon["authorization"][:-1] + "g"}
    async with await served(make, serve, settings) as client:
        told = [(await client.get(ASKED, headers=one)).json() | {"id": ""} for one in (late, wrong)]
        assert told[0] == told[1]
        assert (await client.get(ASKED, headers=soon)).status_code == 200


async def test_a_key_is_good_until_the_second_it_expires(store: Store) -> None:
    secret = await store.keys.create(ApiKey(name="k", scopes=("read",), expires_at=NOW))
    assert await store.keys.find(secret, NOW - timedelta(microseconds=1)) is not None
    assert await store.keys.find(secret, NOW) is None


async def test_of_two_who_make_a_key_of_one_name_one_is_refused(settings: Settings) -> None:
    stores = [open_store(settings) for _ in range(2)]
    found = await asyncio.gather(*(key(one, "same") for one in stores * 4), return_exceptions=True)
    assert len([one for one in found if isinstance(one, dict)]) == 1
    assert len(await stores[0].keys.all()) == 1
    for one in stores:
        one.close()


async def test_a_key_comes_as_bearer_in_any_case_or_as_x_api_key(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    secret = (await key(store, "mine"))["authorization"].removeprefix("Bearer ")
    changed = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    good = [
        {"authorization": f"bearer {secret}"},
        {"authorization": f"BEARER  {secret}"},
        {"x-api-key": secret},
        {"authorization": "Bearer", "x-api-key": secret},
        {"authorization": "Basic dTpw", "x-api-key": secret},
    ]
    bad: list[dict[str, Any]] = [
        {"authorization": secret},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {changed}"},
        {"authorization": f"Bearer {secret.upper()}"},
        {"authorization": f"Bearer {changed}", "x-api-key": secret},
        {"x-api-key": b"\xff\xfe"},
        {"x-api-key": "wr-" + "0" * 12 + secret[15:]},
        {"x-api-key": "wr-'; DROP TABLE keys--"},
    ]
    async with await served(make, serve, settings) as client:
        assert [(await client.get(ASKED, headers=one)).status_code for one in good] == [200] * len(
            good
        )
        assert [(await client.get(ASKED, headers=one)).status_code for one in bad] == [401] * len(
            bad
        )


async def test_the_key_of_the_environment_stays_beside_those_of_the_store(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    mine, locked = await key(store, "mine"), settings.model_copy(update={"api_key": SecretStr(KEY)})
    async with await served(make, serve, locked) as client:
        for headers in (mine, {"x-api-key": KEY}):
            assert (await client.get(ASKED, headers=headers)).status_code == 200
        assert (await client.get("/metrics", headers={"x-api-key": KEY})).status_code == 200


async def test_no_secret_is_kept_logged_or_sent_back(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    mine = await key(store, "mine", "write")
    secret = mine["authorization"].split("-")[-1]
    with capture_logs() as logged:
        async with await served(make, serve, settings) as client:
            told = [
                (await client.get(path, headers=mine)).text
                for path in (ASKED, "/metrics", "/nowhere")
            ]
    assert secret not in f"{told} {logged} {await store.keys.all()}"
    store.close()
    assert [
        file for file in settings.data.glob("whyrank.db*") if secret.encode() in file.read_bytes()
    ] == []


async def test_a_wide_bind_needs_a_key_from_somewhere(settings: Settings, store: Store) -> None:
    wide = settings.changed({"service": {"host": "0.0.0.0"}})  # noqa: S104  that is the point
    with pytest.raises(ConfigError, match="whyrank keys create"):
        create_app(wide)
    assert create_app(wide.model_copy(update={"api_key": SecretStr(KEY)}))
    await key(store, "mine")
    assert create_app(wide)


# ── how often ─────────────────────────────────────────────────────────────────────────────────────


def statuses(answers: list[httpx.Response]) -> list[int]:
    return [one.status_code for one in answers]


async def test_a_key_sends_what_it_may_in_a_minute_and_is_told_when_it_may_again(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    slow, fast = await key(store, "slow", rate=2), await key(store, "fast")
    async with await served(make, serve, settings) as client:
        first = time.time()
        answers = [await client.get(ASKED, headers=slow) for _ in range(3)]
        assert statuses(answers) == [200, 200, 429]
        refused = answers[-1]
        assert (refused.json()["error"]["code"], refused.json()["error"]["type"]) == (
            "rate_limited",
            "rate_limit_error",
        )
        assert math.floor(first + 60 - time.time()) <= int(refused.headers["retry-after"]) <= 60
        assert statuses([await client.get(ASKED, headers=fast) for _ in range(5)]) == [200] * 5
        assert statuses([await client.get("/healthz", headers=slow)]) == [200]


async def test_only_what_a_route_would_answer_counts_towards_the_rate(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    reader = await key(store, "reader", "read", rate=2)
    forbidden, unknown, wrong_method = ("POST", "/v1/items"), ("GET", "/nowhere"), ("PUT", ASKED)
    async with await served(make, serve, settings) as client:

        async def refused() -> list[int]:
            return statuses(
                [
                    await client.request(*one, headers=reader)
                    for one in (forbidden, unknown, wrong_method)
                ]
            )

        assert await refused() == [403, 404, 405]
        assert statuses([await client.get(ASKED, headers=reader) for _ in range(3)]) == [
            200,
            200,
            429,
        ]
        assert await refused() == [403, 404, 405]
        assert statuses([await client.request(*forbidden, headers={"x-api-key": "wrong"})]) == [401]


async def test_callers_of_an_open_service_share_one_rate(
    make: Make, serve: Serve, settings: Settings
) -> None:
    limited = settings.changed({"limits": {"rate": 3}})
    async with await served(make, serve, limited) as client:
        callers: list[dict[str, str]] = [
            {},
            {"x-api-key": "a"},
            {"x-api-key": "b"},
            {"x-api-key": "c"},
        ]
        assert statuses([await client.get(ASKED, headers=one) for one in callers]) == [
            200,
            200,
            200,
            429,
        ]


async def test_a_key_without_a_rate_has_the_configured_one(
    make: Make, serve: Serve, settings: Settings, store: Store
) -> None:
    plain, own = await key(store, "plain"), await key(store, "own", rate=2)
    async with await served(make, serve, settings.changed({"limits": {"rate": 1}})) as client:
        for headers, told in ((plain, [200, 429]), (own, [200, 200, 429])):
            assert statuses([await client.get(ASKED, headers=headers) for _ in told]) == told
