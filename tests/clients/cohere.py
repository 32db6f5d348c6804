"""cohere 7: `Client` (v1), `ClientV2` and its async twin."""

import asyncio
from functools import partial
from typing import Any

import cohere

from tests.clients import (
    BASE,
    BEST,
    DEFAULT_ANSWERED,
    DOCS,
    KEY,
    LOCKED,
    NEEDS_KEY,
    NOTHING,
    QUERY,
    as_told,
    refused,
)


def both(kind: Any) -> None:
    """What v1 and v2 have in common."""
    client = kind(api_key=KEY, base_url=BASE)
    rerank = partial(client.rerank, model="whyrank", query=QUERY)
    found = rerank(documents=DOCS)
    assert sorted(one.index for one in found.results) == [0, 1, 2]
    scores = [one.relevance_score for one in found.results]
    assert scores == sorted(scores, reverse=True)
    assert found.meta.billed_units.search_units == 1
    assert found.meta.warnings == []
    assert [one.index for one in rerank(documents=DOCS, top_n=1).results] == [BEST]
    strange = client.rerank(model="rerank-v4.0-pro", query=QUERY, documents=DOCS)
    assert strange.results[0].index == BEST
    assert DEFAULT_ANSWERED in strange.meta.warnings[0]
    error = refused(cohere.UnprocessableEntityError, "top_n", rerank, documents=DOCS, top_n=-1)
    assert error.body["message"].startswith("top_n: ")
    refused(cohere.BadRequestError, NOTHING, rerank, documents=[])
    refused(
        cohere.UnprocessableEntityError,
        "limits.query_chars",
        rerank,
        query="x" * 9_000,
        documents=DOCS,
    )
    if LOCKED:
        for wrong in ("wrong", ""):
            stranger = kind(api_key=wrong, base_url=BASE)
            error = refused(
                cohere.UnauthorizedError,
                NEEDS_KEY,
                stranger.rerank,
                query=QUERY,
                documents=DOCS,
                model="m",
            )
            assert NEEDS_KEY in error.body["message"]


def v1() -> None:
    client: Any = cohere.Client(api_key=KEY, base_url=BASE)
    objects = [{"text": text, "shelf": "x"} for text in DOCS]
    found = client.rerank(
        query=QUERY, documents=objects, rank_fields=["text"], return_documents=True
    )
    assert found.results[0].document.text == DOCS[BEST]
    plain = client.rerank(query=QUERY, documents=objects, max_chunks_per_doc=3)
    assert plain.results[0].document is None
    assert plain.meta.api_version.version == "1"


def personal() -> None:
    """Who asks, in the body or in a header; what is ours beside what is Cohere's."""
    client: Any = cohere.ClientV2(api_key=KEY, base_url=BASE)
    rerank = partial(client.rerank, model="whyrank", query="", documents=["notting", "solaris"])
    found = rerank(
        request_options={"additional_body_parameters": {"user": "ann", "explain": "short"}}
    )
    assert found.results[0].item_id == "solaris"
    assert "Sci-Fi" in found.results[0].reason
    assert found.meta.ranking_id.startswith("rk-")
    by_header = rerank(request_options={"additional_headers": {"X-User-Id": "ann"}})
    assert by_header.results[0].index == 1
    assert rerank(max_tokens_per_doc=64).results[0].index == 0
    assert (
        client.with_raw_response.rerank(model="m", query="x", documents=["y"])
        .headers["x-request-id"]
        .startswith("req-")
    )
    refused(
        cohere.NotFoundError,
        "POST /v2/embed",
        client.embed,
        model="m",
        texts=["a"],
        input_type="search_query",
    )


async def asynchronous() -> None:
    async with cohere.AsyncClientV2(api_key=KEY, base_url=BASE) as client:
        asked = [
            client.rerank(model="whyrank", query=QUERY, documents=DOCS, top_n=1) for _ in range(4)
        ]
        assert [found.results[0].index for found in await asyncio.gather(*asked)] == [BEST] * 4


both(cohere.Client)
both(cohere.ClientV2)
v1()
personal()
asyncio.run(asynchronous())
as_told("Cohere")
