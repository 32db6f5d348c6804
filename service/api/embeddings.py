"""`/v1/embeddings`: texts as vectors, by the embedder of the catalogue."""

from base64 import b64encode
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from service.api.needs import EmbeddingsDep, JsonRoute
from service.api.shapes import either
from service.errors import BadRequest
from service.schema import Text

router = APIRouter(prefix="/v1", tags=["embeddings"], route_class=JsonRoute)

Tokens = Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1)]
Input = Annotated[
    Text
    | Annotated[list[Text], Field(min_length=1)]
    | Tokens
    | Annotated[list[Tokens], Field(min_length=1)],
    either("a text, some texts, or their token ids; at least one"),
]


class EmbeddingsBody(BaseModel):
    """OpenAI's request. Fields of OpenAI's that are not listed are taken without effect."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"input": ["a space horror film"]}]}
    )

    input: Input = Field(
        description="One text or several; or their token ids by the embedder's own tokenizer.",
        examples=[["a space horror film"]],
    )
    model: Text | None = Field(
        None, description="Any: there is one space. Its name is in the answer."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: little-endian float32; else floats."
    )
    dimensions: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="Only the space's own number."
    )


class Embedding(BaseModel):
    object: Literal["embedding"] = Field("embedding", description="Always this.")
    index: int = Field(description="The text's place in the request, from 0.")
    embedding: list[float] | str = Field(description="A unit vector, or its bytes in base64.")


class Embeddings(BaseModel):
    object: Literal["list"] = Field("list", description="Always this.")
    data: list[Embedding] = Field(description="One for each text, in input order.")
    model: str = Field(description="The embedder that made them.")
    usage: dict[str, int] = Field(description="Tokens read: `prompt_tokens`, `total_tokens`.")


@router.post("/embeddings", summary="Texts as vectors of the catalogue's space")
async def embeddings(body: EmbeddingsBody, space: EmbeddingsDep) -> Embeddings:
    """Unit vectors in input order. Their inner products with items' vectors are the cosines by
    which items are retrieved."""
    single = isinstance(body.input, str) or isinstance(body.input[0], int)
    inputs: Any = [body.input] if single else body.input
    if body.dimensions not in (None, space.dimension):
        raise BadRequest(f"dimensions: this space has {space.dimension}", param="dimensions")
    vectors, tokens = await space.embed(inputs)
    if body.encoding_format == "base64":
        written = [b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
    else:
        written = vectors.tolist()
    return Embeddings(
        data=[Embedding(index=n, embedding=vector) for n, vector in enumerate(written)],
        model=space.name,
        usage={"prompt_tokens": tokens, "total_tokens": tokens},
    )
