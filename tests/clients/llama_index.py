"""llama-index: every rerank postprocessor whose address can be set, and the OpenAI-like model."""

from functools import partial
from typing import Any

import cohere
import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.llms.openai_like import OpenAILike
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.siliconflow_rerank import SiliconFlowRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from llama_index.postprocessor.xinference_rerank import XinferenceRerank
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

RERANKERS: dict[str, Any] = {
    "cohere": lambda key, **more: CohereRerank(base_url=BASE, api_key=key, **more),
    "jina": lambda key, **more: JinaRerank(base_url=f"{BASE}/v1", api_key=key, **more),
    "siliconflow": lambda key, **more: SiliconFlowRerank(
        base_url=f"{BASE}/v1/rerank", api_key=key, **more
    ),
    "tei": lambda key, **more: TextEmbeddingInference(
        base_url=BASE, auth_token=f"Bearer {key}", **more
    ),
    "xinference": lambda key, **more: XinferenceRerank(base_url=BASE, **more),  # knows no keys
}
RAISED: dict[str, type[Exception]] = {
    "cohere": cohere.UnauthorizedError,
    "jina": RuntimeError,
    "siliconflow": RuntimeError,
}
"""What their users get where the key is wrong; the others raise what tells nothing."""


class Film(BaseModel):
    title: str
    why: str


class Evening(BaseModel):
    films: list[Film]


def nodes(*texts: str) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text)) for text in texts]


def rerank(name: str) -> None:
    made: Any = RERANKERS[name]
    if name == "xinference" and LOCKED:
        refused(Exception, NEEDS_KEY, made(KEY).postprocess_nodes, nodes(*DOCS), query_str=QUERY)
        return
    found = made(KEY, top_n=2).postprocess_nodes(nodes(*DOCS), query_str=QUERY)
    assert len(found) == 2
    assert found[0].text == DOCS[BEST]
    assert found[0].score > found[1].score
    assert made(KEY, top_n=9).postprocess_nodes(nodes(DOCS[0]), query_str=QUERY)[0].text == DOCS[0]
    assert made(KEY).postprocess_nodes([], query_str=QUERY) == []
    if LOCKED and name in RAISED:
        refused(
            RAISED[name], NEEDS_KEY, made("wrong").postprocess_nodes, nodes(*DOCS), query_str=QUERY
        )


def mistakes() -> None:
    for name, kind in (("cohere", cohere.UnprocessableEntityError), ("jina", RuntimeError)):
        reranker = RERANKERS[name](KEY, top_n=-1)
        refused(kind, "top_n: ", partial(reranker.postprocess_nodes, nodes(*DOCS), query_str=QUERY))


def chat() -> None:
    made: Any = partial(
        OpenAILike, api_base=f"{BASE}/v1", api_key=KEY, is_chat_model=True, max_retries=0
    )
    model = made(
        model="whyrank", should_use_structured_outputs=True, additional_kwargs={"user": "ann"}
    )
    asked = [ChatMessage(role="user", content="a film?")]
    answer = model.chat(asked)
    assert answer.raw.recommendations[0]["title"] in answer.message.content
    assert "".join(piece.delta for piece in model.stream_chat(asked)) == answer.message.content
    assert len(model.as_structured_llm(Evening).chat(asked).raw.films) == 5
    refused(openai.NotFoundError, NO_MODEL, made(model="gpt-99").chat, asked)
    if LOCKED:
        refused(
            openai.AuthenticationError,
            NEEDS_KEY,
            made(model="whyrank", api_key="wrong").chat,
            asked,
        )


for each in RERANKERS:
    rerank(each)
mistakes()
chat()
as_told("LlamaIndex")
