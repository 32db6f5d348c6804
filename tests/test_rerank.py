"""Rerank in every dialect, over real HTTP, as the clients read it."""

import json
import random
import re
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest

from service.api import create_app
from service.api.rerank import ROUTES
from service.config import Settings
from service.llm import Call
from service.schema import Document, RerankRequest
from tests.conftest import ALIEN, FILMS, Make, letters_of
from tests.scripted import ScriptedLLM

Serve = Callable[[Any], Any]
DOCS = [
    "How to bake sourdough bread at home",
    "A crew in space is hunted by an alien: a horror film",
    "The best hiking trails of the Alps",
    "A romantic comedy about a bookshop in London",
]
HISTORY = [
    {"user_id": "ann", "item_id": one, "type": "like"} for one in ("alien", "thing", "shining")
]


def shown_first(call: Call) -> str:
    """A model that keeps the order it is shown."""
    return " ".join(letters_of(call))


@pytest.fixture
async def client(make: Make, settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    changed = settings.changed({"rank": {"strategy": "auto"}, "rerank": {"json_query": True}})
    service = await make(changed=changed, llm=ScriptedLLM(shown_first, alias="tiny"))
    await service.ingest.events(HISTORY)
    await service.ingest.users([{"user_id": "bob"}])

    async def ready(_: Settings) -> Any:
        return service

    base = await serve(create_app(changed, ready))
    async with httpx.AsyncClient(base_url=base, timeout=60) as client:
        yield client


async def asked(
    client: httpx.AsyncClient, path: str = "/v2/rerank", *, headers: Any = None, **body: Any
) -> Any:
    answer = await client.post(
        path, json={"query": "a scary film in space", "documents": DOCS, **body}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def whole(found: list[dict[str, Any]], count: int, score: str = "relevance_score") -> None:
    scores = [one[score] for one in found]
    assert sorted(one["index"] for one in found) == list(range(count))
    assert all(0 < one < 1 for one in scores)
    assert all(before - after > 0.9e-6 for before, after in pairwise(scores))


@pytest.mark.parametrize("path", ROUTES)
async def test_every_route_ranks_by_the_query_alone(client: httpx.AsyncClient, path: str) -> None:
    found = await asked(client, path)
    whole(found["results"], 4)
    assert found["results"][0]["index"] == 1
    assert "document" not in found["results"][0]
    assert found["meta"]["degraded"] is None
    assert found["meta"]["billed_units"] == {"search_units": 1}
    assert isinstance(found["meta"]["tokens"]["input_tokens"], int)


async def test_the_order_in_which_documents_come_changes_nothing(client: httpx.AsyncClient) -> None:
    first = await asked(client)
    order = [DOCS[one["index"]] for one in first["results"]]
    for seed in range(5):
        mixed = random.Random(seed).sample(DOCS, 4)
        again = await asked(client, documents=mixed)
        assert [mixed[one["index"]] for one in again["results"]] == order


async def test_tei_gets_its_bare_list(client: httpx.AsyncClient) -> None:
    body = {
        "query": "a scary film in space",
        "texts": DOCS,
        "raw_scores": False,
        "return_text": True,
        "truncate": True,
    }
    answer = await client.post("/rerank", json=body)
    assert isinstance(answer.json(), list)
    whole(answer.json(), 4, "score")
    assert answer.json()[0] == {"index": 1, "score": answer.json()[0]["score"], "text": DOCS[1]}
    without = (await client.post("/rerank", json={**body, "return_text": False})).json()
    assert set(without[0]) == {"index", "score"}


async def test_a_person_is_found_wherever_a_client_can_say_it(client: httpx.AsyncClient) -> None:
    films = [{"id": "notting"}, {"id": "solaris"}, {"id": "heat"}]
    plain = await asked(client, query="", documents=films)
    ways: list[dict[str, Any]] = [
        {"user_id": "ann"},
        {"user": "ann"},
        {"metadata": {"user_id": "ann"}},
        {"headers": {"X-User-Id": "ann"}},
        {"headers": {"X-OpenWebUI-User-Id": "ann"}},
        {"query": json.dumps({"user_id": "ann"})},
        {
            "query": json.dumps(
                {"user_id": "new", "history": [{"item_id": "alien", "type": "like"}]}
            )
        },
    ]
    for way in ways:
        found = await asked(client, **{"query": "", "documents": films, **way})
        assert found["results"][0]["item_id"] == "solaris", way
    assert plain["results"][0]["item_id"] != "solaris"


async def test_a_json_query_is_read_strictly_and_words_in_braces_are_words(
    client: httpx.AsyncClient,
) -> None:
    for query in ('{"user_id": "ann", "hobby": 1}', '{"history": []}', '{"user_id": 3}'):
        answer = await client.post("/v1/rerank", json={"query": query, "documents": DOCS})
        assert answer.status_code == 422
        assert "rerank.json_query" in answer.json()["error"]["message"]
    await asked(client, query="{not json at all")


async def test_ids_of_the_catalogue_bring_what_it_knows(client: httpx.AsyncClient) -> None:
    ids, bare = [{"id": "notting"}, {"id": "alien"}], ["notting", "alien"]
    for documents, are_ids in ((ids, None), (bare, True)):
        found = await asked(client, query="horror", documents=documents, documents_are_ids=are_ids)
        assert [one["item_id"] for one in found["results"]] == ["alien", "notting"]
    texts = await asked(client, query="horror", documents=bare)
    assert not any("item_id" in one for one in texts["results"]), "bare strings are texts"
    twice = await asked(
        client,
        query="horror",
        documents=["alien", "alien", {"id": "alien"}, {"id": "nobody"}],
        documents_are_ids=True,
    )
    whole(twice["results"], 4)
    assert twice["results"][-1]["index"] == 3
    told = (
        "blank, or only an id that the catalogue does not have, so last and without a "
        "reason: documents 3"
    )
    assert told in twice["meta"]["warnings"]


async def test_a_document_that_is_only_an_unknown_id_has_no_reason(
    client: httpx.AsyncClient,
) -> None:
    documents = [
        {"id": "nobody"},
        {"id": "alien"},
        "nobody's own words",
        {"id": "nobody/2", "text": "words"},
    ]
    found = await asked(client, documents=documents, explain="short", user_id="ann")
    assert [one["index"] for one in found["results"] if "reason" not in one] == [0]
    assert found["results"][-1]["index"] == 0


async def test_top_n_and_blank_documents(client: httpx.AsyncClient) -> None:
    for all_of_them in (None, 0, 4, 1_000):
        whole((await asked(client, top_n=all_of_them))["results"], 4)
    assert [one["index"] for one in (await asked(client, top_n=1))["results"]] == [1]
    found = await asked(client, documents=["", "  ", {"image": "http://x/y.png"}, *DOCS])
    whole(found["results"], 7)
    assert {one["index"] for one in found["results"][-3:]} == {0, 1, 2}
    nothing = await asked(client, documents=["", " "])
    whole(nothing["results"], 2)


@pytest.mark.parametrize(
    ("query", "documents", "right"),
    [
        ("书架", ["不锈钢杯长效保温便携", "明前龙井绿茶礼盒装", "北欧风实木书架多层收纳"], 2),
        (
            "お茶の急須",
            [
                "木綿の手ぬぐいは藍染めの布",
                "深煎りの珈琲豆を挽きたてで",
                "南部鉄器の急須は職人が作る",
            ],
            2,
        ),
        (
            "담요를",
            ["무선이어폰은소음을줄입니다", "원목책장은다섯칸입니다", "겨울양모담요는따뜻합니다"],
            2,
        ),
        ("หูฟัง", ["ร่มพับอัตโนมัติกันฝน", "ชั้นวางหนังสือไม้โอ๊คห้าชั้น", "ซื้อหูฟังไร้สายตัดเสียงรบกวน"], 2),
        (
            "bouilloires electriques",
            ["Étagère en chêne", "Écharpe de laine", "Une bouilloire électrique"],
            2,
        ),
        ("kettles", ["A scarf of wool", "An umbrella for two", "A kettle of steel"], 2),
    ],
)
async def test_words_count_in_any_language(
    client: httpx.AsyncClient, query: str, documents: list[str], right: int
) -> None:
    found = await asked(client, query=query, documents=documents)
    assert found["results"][0]["index"] == right


async def test_a_query_without_a_word_ranks_too(client: httpx.AsyncClient) -> None:
    for query in ("a", "?", "1 2", " "):
        whole((await asked(client, query=query))["results"], 4)


async def test_documents_are_shown_only_where_a_client_can_read_them(
    client: httpx.AsyncClient,
) -> None:
    found = await asked(
        client, "/v1/rerank", return_documents=True, documents=[{"text": "space"}, "bread"]
    )
    assert found["results"][0]["document"] == {"text": "space"}
    assert (
        "document" not in (await asked(client, "/v2/rerank", return_documents=True))["results"][0]
    )
    named = await asked(
        client,
        "/v1/rerank",
        documents=[{"a": "bread", "b": "x"}, {"a": "space", "b": "y"}],
        rank_fields=["a"],
    )
    assert named["results"][0]["index"] == 1


async def test_results_bring_the_fields_that_a_request_asks_for(client: httpx.AsyncClient) -> None:
    await client.post("/v1/items", json=FILMS[0] | ALIEN)
    fields = ["title", "text", "url", "image_url", "attributes", "published_at"]
    mine = {
        "text": "How to bake bread",
        "url": "https://bread.example",
        "published_at": "yesterday",
        "minutes": 40,
    }
    found = await asked(
        client,
        documents=[{"id": "alien"}, mine, {"id": "ghost"}, {"id": "alien", "url": "/mine"}],
        fields=fields,
    )
    told = {one["index"]: {name: one[name] for name in fields} for one in found["results"]}
    alien: dict[str, Any] = {"title": "Alien", "attributes": FILMS[0]["attributes"], **ALIEN}
    assert told[0] == alien
    assert told[3] == alien | {"url": "/mine", "attributes": alien["attributes"] | {"url": "/mine"}}
    assert (told[1]["title"], told[1]["text"], told[1]["url"]) == (
        "",
        "How to bake bread",
        "https://bread.example",
    )
    assert (told[1]["attributes"]["minutes"], told[1]["image_url"], told[1]["published_at"]) == (
        40,
        None,
        None,
    )
    assert told[2] == {
        "title": "",
        "text": "",
        "url": None,
        "image_url": None,
        "attributes": {},
        "published_at": None,
    }
    assert not [warning for warning in found["meta"]["warnings"] if "cut" in warning]
    assert not {*fields} & {
        name
        for one in (await asked(client, documents=[{"id": "alien"}, mine]))["results"]
        for name in one
    }
    bare = await client.post("/rerank", json={"query": "q", "texts": ["a"], "fields": ["url"]})
    assert (bare.status_code, bare.json()["error"]["param"]) == (422, "fields")


async def test_reasons_ride_in_results_when_asked_for(client: httpx.AsyncClient) -> None:
    films = [{"id": "solaris"}, {"id": "notting"}, {"id": "heat"}]
    found = await asked(client, query="", documents=films, user="ann", explain="short")
    assert "Sci-Fi" in found["results"][0]["reason"]
    assert set(found["results"][0]["evidence"]) <= {"alien", "thing", "shining"}
    assert (
        "reason" not in (await asked(client, query="", documents=films, user="ann"))["results"][0]
    )


async def test_a_document_is_said_to_match_only_by_what_it_has_of_the_query(
    client: httpx.AsyncClient,
) -> None:
    """Every document has a place by the query, the worst of them too."""
    films = [{"id": "alien"}, {"id": "amelie"}, {"text": DOCS[0]}]
    found = await asked(client, query="a horror film in space", documents=films, explain="short")
    said = {one["index"]: one["reason"] for one in found["results"]}
    assert "Horror" in said[0]
    assert "you asked" in said[0]
    assert all("placed by how close it is to what you asked for" in said[n] for n in (1, 2))


async def test_a_model_judges_the_first_and_the_warnings_say_so(client: httpx.AsyncClient) -> None:
    many = [f"film number {n} about space and {'x' * 300}" for n in range(100)]
    found = await asked(
        client, documents=many, user="ann", strategy="listwise", model="a-model-of-theirs", hobby=1
    )
    whole(found["results"], 100)
    told = "\n".join(found["meta"]["warnings"])
    assert "model 'a-model-of-theirs' is not configured here" in told
    assert "a model judged 20 of 100 documents" in told
    assert "shown to a model 192 tokens" in told
    assert "fields nobody reads: hobby" in told
    assert found["meta"]["strategy"] == "listwise"
    assert found["usage"]["prompt_tokens"] > 0


async def test_one_document_asks_no_model(make: Make, settings: Settings) -> None:
    from service.schema import Document, RerankRequest

    model = ScriptedLLM(shown_first, alias="tiny")
    service = await make(llm=model)
    await service.ingest.events(HISTORY)
    for explain in ("none", "short"):
        one = RerankRequest(
            query="space",
            documents=[Document(id="solaris"), Document()],
            user_id="ann",
            explain=explain,
        )
        assert (await service.recommender.rerank(one)).ranking.items[0].item_id == "solaris"
    assert model.calls == []


async def test_a_thousand_documents_within_the_deadline(client: httpx.AsyncClient) -> None:
    words = random.Random(1)
    many = [" ".join(f"w{words.randrange(2_000)}" for _ in range(200)) for _ in range(1_000)]
    found = await asked(client, query="w17", documents=many, deadline_ms=1_500)
    whole(found["results"], 1_000)
    assert any("no time to embed" in one for one in found["meta"]["warnings"])
    assert "w17" in many[found["results"][0]["index"]].split()


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"documents": []}, 400, "nothing to rank"),
        ({"documents": None}, 400, "nothing to rank"),
        ({"top_n": -1}, 422, "top_n"),
        ({"top_n": "3"}, 422, "top_n"),
        (
            {"documents": [1, 2]},
            422,
            "documents.0: expected a text or an object; documents.1: expected a text or an object",
        ),
        ({"query": ["x"]}, 422, "query: expected a text or an object"),
        ({"documents": ["x"] * 1_001}, 422, "limits.documents"),
        ({"query": "x" * 8_001}, 422, "limits.query_chars"),
        ({"user_id": "a\nb"}, 422, "user_id"),
        ({"strategy": "magic"}, 422, "strategy"),
        ({"deadline_ms": 0}, 422, "deadline_ms"),
    ],
)
async def test_what_is_wrong_with_a_request_is_told(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, told: str
) -> None:
    answer = await client.post("/v1/rerank", json={"query": "x", "documents": DOCS, **body})
    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]["message"]


ODD: list[dict[str, Any]] = [
    {"id": "https://a.b/c", "text": "a horror film"},
    {"id": "", "text": "a comedy"},
    {"id": "x" * 300, "title": "t" * 5_000, "text": "an alien"},
    {"id": "v", "text": "w", "note": "n" * 5_000, "": "empty", "k" * 65: 1},
    {"id": "m", "text": "w", **{f"f{n}": n for n in range(150)}},
    {"id": "a", "text": "w", "attributes": {"a": None, "b": [1, None], "c": ["x"]}},
    {"id": "l", "text": "w " * 600_000},
    {"id": None, "item_id": "alien"},
    {"id": "m", "text": "another of the same id"},
]


async def test_an_odd_document_fails_only_itself(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/v1/rerank", json={"query": "horror", "documents": ODD})).json()
    by_place = {row["index"]: row.get("item_id") for row in answer["results"]}
    assert [by_place[place] for place in range(len(ODD))] == [
        one.get("id") or one.get("item_id") for one in ODD
    ]
    assert any(
        told.startswith("cut to what a document may hold: 2, 3, 4, 5, 6")
        for told in answer["meta"]["warnings"]
    )


async def test_a_document_adds_to_what_the_catalogue_knows(make: Make) -> None:
    service = await make(llm=ScriptedLLM(shown_first, alias="tiny"))
    request = RerankRequest(
        query="x", documents=[Document(id="alien", attributes={"score": 0.4, "year": 1980})]
    )
    (item,) = (await service.recommender._stages.documents.read(request)).items
    assert item.attributes == {"year": 1980, "genre": ["Horror", "Sci-Fi"], "score": 0.4}


async def test_who_asks_may_be_named_in_any_letters_or_not_at_all(
    make: Make, serve: Serve, settings: Settings
) -> None:
    service = await make(llm=ScriptedLLM(shown_first, alias="tiny"))
    await service.ingest.events([{"user_id": "josé", "item_id": "alien", "type": "like"}])

    async def ready(_: Settings) -> Any:
        return service

    async with httpx.AsyncClient(base_url=await serve(create_app(settings, ready))) as client:
        body = {"query": "", "documents": [{"id": "thing"}, {"id": "heat"}], "explain": "short"}
        body |= {"user": ""}
        headers = {b"X-User-Id": "josé".encode()}
        answer = (await client.post("/v1/rerank", json=body, headers=headers)).json()
        assert ["alien"] in [row["evidence"] for row in answer["results"]]
        wrong = await client.post("/v1/rerank", json={**body, "metadata": {"user_id": 127}})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "metadata.user_id")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/items", {"id": "a", "attributes": {"abstract": "x" * 5_000}}),
        ("/v1/items", {"id": "a", "attributes": {"abstract": [{"nested": 1}]}}),
        ("/v1/recommendations", {"user_id": "u", "filters": {"year": {"gte": {"nested": 1}}}}),
        ("/v1/recommendations", {"user_id": "u", "filters": {"genre": {"any": [{"nested": 1}]}}}),
    ],
)
async def test_an_error_names_no_inner_shapes(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == 422
    assert not re.search(r"functools|at 0x|function-|list\[|union\[", answer.text)
