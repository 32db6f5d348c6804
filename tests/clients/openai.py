"""openai 2 and 3: chat, streams, structured answers, embeddings, models."""

import asyncio
from typing import Any

import openai
from pydantic import BaseModel

from tests.clients import BASE, KEY, LOCKED, NEEDS_KEY, NO_MODEL, as_told, refused

ASKED: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a film?"}]
URL = f"{BASE}/v1"


class Film(BaseModel):
    title: str
    year: int
    why: str


class Evening(BaseModel):
    films: list[Film]


def chat(client: openai.OpenAI) -> None:
    answer: Any = client.chat.completions.create(
        model="whyrank", messages=ASKED, user="ann", extra_body={"top_n": 2}
    )
    assert answer.choices[0].finish_reason == "stop"
    assert [one["rank"] for one in answer.recommendations] == [1, 2]
    assert answer.recommendations[0]["title"] in answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id.startswith("req-")


def streams(client: openai.OpenAI) -> None:
    chunks: list[Any] = list(
        client.chat.completions.create(
            model="whyrank",
            messages=ASKED,
            user="ann",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].recommendations[0]["rank"] == 1
    assert chunks[-1].usage.total_tokens >= 0
    with client.chat.completions.stream(model="whyrank", messages=ASKED, user="ann") as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        assert "".join(pieces) == stream.get_final_completion().choices[0].message.content


def structured(client: openai.OpenAI) -> None:
    more: dict[str, Any] = {
        "model": "whyrank",
        "messages": ASKED,
        "user": "ann",
        "response_format": Evening,
    }
    answer: Any = client.chat.completions.parse(**more, extra_body={"top_n": 2})
    assert [film.title for film in answer.choices[0].message.parsed.films] == [
        one["title"] for one in answer.recommendations
    ]
    assert all(film.year > 1900 and film.why for film in answer.choices[0].message.parsed.films)
    with client.chat.completions.stream(**more) as stream:
        whole: Any = stream.get_final_completion()
    assert len(whole.choices[0].message.parsed.films) == 5


def embeddings(client: openai.OpenAI) -> None:
    found = client.embeddings.create(
        model="any", input=["a space horror film", "how to bake bread"]
    )
    plain = client.embeddings.create(
        model="any", input="a space horror film", encoding_format="float"
    )
    assert (
        max(
            abs(a - b)
            for a, b in zip(found.data[0].embedding, plain.data[0].embedding, strict=True)
        )
        < 1e-5
    )
    refused(
        openai.UnprocessableEntityError,
        "input: expected a text",
        client.embeddings.create,
        model="any",
        input=[],
    )
    refused(
        openai.UnprocessableEntityError,
        "dimensions",
        client.embeddings.create,
        model="any",
        input="x",
        dimensions=7,
    )


def models(client: openai.OpenAI) -> None:
    ids = {model.id for model in client.models.list()}
    assert {"whyrank", "whyrank-fast", "whyrank-prior"} < ids
    assert client.models.retrieve("whyrank").id == "whyrank"
    refused(openai.NotFoundError, NO_MODEL, client.models.retrieve, "gpt-99")


def mistakes(client: openai.OpenAI) -> None:
    create: Any = client.chat.completions.create
    for stream in (False, True):
        error = refused(
            openai.NotFoundError, NO_MODEL, create, model="gpt-99", messages=ASKED, stream=stream
        )
        assert error.code == "model_not_found"
    refused(openai.UnprocessableEntityError, "messages: ", create, model="whyrank", messages=[])
    refused(openai.BadRequestError, "n: only 1", create, model="whyrank", messages=ASKED, n=2)
    error = refused(
        openai.UnprocessableEntityError,
        "top_n: ",
        create,
        model="whyrank",
        messages=ASKED,
        extra_body={"top_n": 0},
    )
    assert error.param == "top_n"
    refused(
        openai.NotFoundError,
        "POST /v1/responses",
        client.responses.create,
        model="whyrank",
        input="a film?",
    )
    if LOCKED:
        stranger = openai.OpenAI(base_url=URL, api_key="wrong", max_retries=0)
        error = refused(openai.AuthenticationError, NEEDS_KEY, stranger.models.list)
        assert error.code == "unauthorized"


async def asynchronous() -> None:
    async with openai.AsyncOpenAI(base_url=URL, api_key=KEY) as client:
        stream: Any = await client.chat.completions.create(
            model="whyrank", messages=ASKED, stream=True
        )
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"


with openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0) as opened:
    for part in (chat, streams, structured, embeddings, models, mistakes):
        part(opened)
asyncio.run(asynchronous())
as_told("OpenAI")
