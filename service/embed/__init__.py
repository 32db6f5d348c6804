"""The catalogue's embedding space: an encoder of many languages that comes with a package, any ONNX
sentence transformer in a folder, or somebody's /v1/embeddings."""

from service.embed.local import Text, Vectors
from service.embed.multilingual import MultilingualEmbedder
from service.embed.onnx import OnnxEmbedder, count_tokens
from service.embed.remote import RemoteEmbedder

Embedder = MultilingualEmbedder | OnnxEmbedder | RemoteEmbedder

__all__ = [
    "Embedder",
    "MultilingualEmbedder",
    "OnnxEmbedder",
    "RemoteEmbedder",
    "Text",
    "Vectors",
    "count_tokens",
]
