"""The words of an item, in any script: the space in which they are embedded, and the terms by which
full text search matches them."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.schema import Item

Vectors = npt.NDArray[np.float32]
READ = 2_000
"""How many characters of an item's text are embedded and searched."""
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece"  # Thai, Lao
    "\u1000-\u1049\u1050-\u109f\u1780-\u17d3"  # Burmese, Khmer
    "\u1100-\u11ff\uac00-\ud7a3"  # Korean: has spaces, but hangs particles on words
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u312f\u31f0-\u31ff"  # Japanese, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
)
"""Letters of languages in which a space does not end every word, as ranges of a regular
expression."""
ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")
"""Accents, and the vowel points of Hebrew and Arabic: many people leave them out."""
INDIC = "\u0900-\u0963\u0966-\u0dff"
"""Letters of India and their vowel signs, which `\\w` does not match."""
RUNS = re.compile(f"(?P<unspaced>[{UNSPACED}]+)|(?:[^\\W_{UNSPACED}]|[{INDIC}]|{ACCENTS.pattern})+")
"""A word; or, where spaces don't end words, all letters up to the next mark."""


class Embeds(Protocol):
    """What the catalogue needs of an embedder: unit vectors in one space of a fixed dimension, and
    the space's name.

    If `loaded` is false, reading `dimension` loads the model, which takes a moment; the `name` of
    such an embedder stands for exactly one model.
    """

    @property
    def name(self) -> str: ...
    @property
    def loaded(self) -> bool: ...
    @property
    def dimension(self) -> int: ...
    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape [len(texts), dimension]."""

    async def embed_one(self, text: str) -> Vectors:
        """One unit vector, shape [dimension]; recent texts are remembered."""

    async def counted(self, texts: Sequence[str | Sequence[int]]) -> tuple[Vectors, int]:
        """Unit vectors of texts or token ids, and how many tokens were read."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class UserFactors:
    """A person's vector in the space of the items' factors. `factors_of`: the version of the
    training that made these factors."""

    vector: tuple[float, ...]
    factors_of: str


def words_of(item: Item) -> str:
    """The text of an item that is embedded and searched: the title, the attributes' values and the
    first `READ` characters of the text; the id of an item that has none of them."""
    values = ", ".join(str(value) for _, value in item.facts())
    return ". ".join(part for part in (item.title, values, item.text[:READ]) if part) or item.id


def fingerprint(embedder: Embeds, words: str) -> str:
    """A hash of all that a vector depends on: the embedder and the words."""
    return hashlib.sha256(f"{embedder.name}\n{words}".encode()).hexdigest()[:16]


def terms_of(text: str) -> list[str]:
    """Returns the terms under which full text indexes a text: its words, stemmed, without accents
    and English stop words. Where spaces don't end words, the terms are every character and every
    pair of neighbouring characters, so that a word is matched wherever it stands."""
    words, unspaced = _runs(text)
    return [
        *_stems(words),
        *(term for run in unspaced for term in [*_characters(run), *_pairs(run)]),
    ]


def asked_terms(query: str) -> list[str]:
    """Returns the terms of a query, each once. Where spaces don't end words, ICU's dictionaries
    separate the words; a word's terms are its pairs of neighbouring characters, or the word itself
    if it has one character. Pairs across two words would only add noise."""
    words, unspaced = _runs(query)
    separated = [word for run in unspaced for word in _separate_words(run)]
    pairs = [term for word in separated for term in _pairs(word) or [word]]
    return list(dict.fromkeys([*_stems(words), *pairs]))


def _runs(text: str) -> tuple[list[str], list[str]]:
    """The words that spaces end, and the runs of letters in which spaces don't end words."""
    # NFKC is Unicode's one form of letters that look alike, such as full and half width; Thai's
    # vowel am, which it takes apart, is put together again
    composed = unicodedata.normalize("NFKC", text).replace("\u0e4d\u0e32", "\u0e33")
    runs = list(RUNS.finditer(composed.casefold()))
    return (
        [run[0] for run in runs if not run["unspaced"]],
        [run[0] for run in runs if run["unspaced"]],
    )


def _stems(words: Sequence[str]) -> list[str]:
    """Returns the stems of words, without English stop words and accents. Stop words are dropped
    before accents, as "thé" is not "the"; English endings after accents, as "règle" is "regle"."""
    import lancedb

    tokens = lancedb.tokenize(
        " ".join(words), base_tokenizer="whitespace", stem=False, ascii_folding=False
    )
    plain = ACCENTS.sub("", unicodedata.normalize("NFD", " ".join(token.text for token in tokens)))
    return [
        token.text
        for token in lancedb.tokenize(plain, base_tokenizer="whitespace", remove_stop_words=False)
    ]


def _separate_words(run: str) -> list[str]:
    """The words of a run without spaces. Stop words are dropped, unless nothing would be left."""
    import lancedb

    tokens = lancedb.tokenize(
        run, base_tokenizer="icu", max_token_length=None, stem=False, ascii_folding=False
    )
    return [token.text for token in tokens] or [run]


def _characters(run: str) -> list[str]:
    """Splits a run into letters, each with the vowel signs and tone marks that are written on
    it."""
    characters: list[str] = []
    for char in run:
        if characters and unicodedata.category(char) in {"Mn", "Mc"}:
            characters[-1] += char
        else:
            characters.append(char)
    return characters


def _pairs(run: str) -> list[str]:
    return [first + second for first, second in pairwise(_characters(run))]
