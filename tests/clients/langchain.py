"""langchain-cohere's reranker; langchain-openai's chat model and embeddings."""

from functools import partial
from typing import Any

import cohere
import openai
from langchain_cohere import CohereRerank
from langchain_core.documents import Document
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.clients import (
    BASE,
    BEST,
    DOCS,
    KEY,
    LOCKED,
    NEEDS_KEY,
    NO_MODEL,
    QUERY,
    as_told,
    refused,
)


class Film(BaseModel):
    title: str
    why: str


class Evening(BaseModel):
    films: list[Film]


def rerank() -> None:
    made: Any = partial(CohereRerank, base_url=BASE, model="whyrank", cohere_api_key=KEY)
    pages = [Document(text, metadata={"page": n}) for n, text in enumerate(DOCS)]
    found = made(top_n=2).compress_documents(pages, QUERY)
    assert found[0].metadata["page"] == BEST
    assert found[0].metadata["relevance_score"] > found[1].metadata["relevance_score"]
    assert made().compress_documents([], QUERY) == []
    assert (
        made(model="rerank-v4.0-pro").rerank([{"title": text} for text in DOCS], QUERY)[0]["index"]
        == BEST
    )
    refused(
        cohere.UnprocessableEntityError, "top_n: ", made(top_n=-3).compress_documents, pages, QUERY
    )
    if LOCKED:
        stranger = made(cohere_api_key="wrong")
        refused(cohere.UnauthorizedError, NEEDS_KEY, stranger.compress_documents, pages, QUERY)


def chat() -> None:
    made: Any = partial(ChatOpenAI, base_url=f"{BASE}/v1", api_key=KEY, max_retries=0)
    model = made(model="whyrank", extra_body={"user": "ann", "top_n": 2})
    answer = model.invoke("a film?")
    assert answer.content.count("\n") == 3
    assert answer.response_metadata["finish_reason"] == "stop"
    assert "".join(piece.content for piece in model.stream("a film?")) == answer.content
    evening = model.with_structured_output(Evening).invoke("films?")
    assert len(evening.films) == 2
    assert all(film.why for film in evening.films)
    refused(openai.NotFoundError, NO_MODEL, made(model="gpt-99").invoke, "a film?")
    refused(
        openai.UnprocessableEntityError,
        "top_n: ",
        made(model="whyrank", extra_body={"top_n": 0}).invoke,
        "a film?",
    )
    if LOCKED:
        stranger = made(model="whyrank", api_key="wrong")
        refused(openai.AuthenticationError, NEEDS_KEY, stranger.invoke, "a film?")


def embed() -> None:
    """Without the check that cuts texts into OpenAI's tokens, which are nobody else's."""
    embeddings: Any = OpenAIEmbeddings(
        base_url=f"{BASE}/v1", api_key=KEY, model="any", check_embedding_ctx_length=False
    )
    first, second = embeddings.embed_documents(DOCS[:2])
    assert len(first) == len(second) == len(embeddings.embed_query(QUERY))


rerank()
chat()
embed()
as_told("LangChain")
