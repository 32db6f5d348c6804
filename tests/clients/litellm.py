"""litellm 1.106: rerank by five of its providers, completion by two, embedding."""

import asyncio
import os
from functools import partial
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import asks the network for prices

import litellm
from pydantic import BaseModel

from tests.clients import (
    BASE,
    BEST,
    DOCS,
    KEY,
    LOCKED,
    NEEDS_KEY,
    NO_MODEL,
    NOTHING,
    QUERY,
    as_told,
    refused,
)

RERANK = ("cohere", "jina_ai", "hosted_vllm", "infinity", "litellm_proxy")
HEADERS = ("cohere", "hosted_vllm", "infinity", "litellm_proxy")
"""Which of them send on the caller's `headers`."""
ASKED = [{"role": "user", "content": "a film?"}]
litellm.suppress_debug_info = True


class Film(BaseModel):
    title: str
    why: str


class Evening(BaseModel):
    films: list[Film]


def rerank(provider: str) -> None:
    """`return_documents=False`, as infinity/ takes a document for a bare text, which no other
    client does."""
    call: Any = partial(
        litellm.rerank, model=f"{provider}/whyrank", api_base=BASE, api_key=KEY, query=QUERY
    )
    plain = partial(call, documents=DOCS, return_documents=False)
    found = plain()
    assert sorted(one["index"] for one in found.results) == [0, 1, 2]
    assert [one["index"] for one in plain(top_n=1).results] == [BEST]
    assert plain(model=f"{provider}/some-reranker").results[0]["index"] == BEST
    refused(litellm.BadRequestError, "top_n: ", plain, top_n=-1)
    refused(litellm.BadRequestError, NOTHING, call, documents=[])
    if provider != "infinity":
        told = call(documents=[{"text": text} for text in DOCS])
        assert told.results[0].get("document", {"text": DOCS[BEST]}) == {"text": DOCS[BEST]}
    if provider in HEADERS:
        found = plain(query="", documents=["notting", "solaris"], headers={"X-User-Id": "ann"})
        assert found.results[0]["index"] == 1
    if LOCKED:
        refused(litellm.AuthenticationError, NEEDS_KEY, plain, api_key="wrong")


def complete(provider: str) -> None:
    call: Any = partial(
        litellm.completion,
        model=f"{provider}/whyrank",
        api_base=f"{BASE}/v1",
        api_key=KEY,
        messages=ASKED,
        max_retries=0,
    )
    ann: Any = partial(call, extra_body={"user": "ann", "top_n": 2})
    answer = ann()
    assert answer.choices[0].finish_reason == "stop"
    assert [one["rank"] for one in answer.recommendations] == [1, 2]
    assert answer.recommendations[0]["title"] in answer.choices[0].message.content
    chunks = list(ann(stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).count("\n") >= 3
    assert chunks[-1].choices[0].finish_reason == "stop"
    evening = Evening.model_validate_json(ann(response_format=Evening).choices[0].message.content)
    assert [film.title for film in evening.films] == [
        one["title"] for one in answer.recommendations
    ]
    for stream in (False, True):
        refused(
            litellm.NotFoundError,
            NO_MODEL,
            partial(call, model=f"{provider}/gpt-99", stream=stream),
        )
    refused(litellm.BadRequestError, "messages: ", call, messages=[])
    refused(litellm.BadRequestError, "top_n: ", call, extra_body={"top_n": 0})
    if LOCKED:
        refused(litellm.AuthenticationError, NEEDS_KEY, call, api_key="wrong")
    found: Any = litellm.embedding(
        model=f"{provider}/any", input=["space", "bread"], api_base=f"{BASE}/v1", api_key=KEY
    )
    assert len(found.data) == 2


async def asynchronous() -> None:
    found: Any = await litellm.arerank(
        model="infinity/whyrank", query=QUERY, documents=DOCS, api_base=BASE, api_key=KEY, top_n=1
    )
    assert found.results[0]["index"] == BEST


for name in RERANK:
    rerank(name)
for name in ("openai", "litellm_proxy"):
    complete(name)
asyncio.run(asynchronous())
as_told("LiteLLM")
