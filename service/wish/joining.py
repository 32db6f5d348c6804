"""Joins what a model, or the request itself, says of a wish to what the rules read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.schema import Filter, Understood, Wish
from service.wish.vocabulary import Vocabulary

Parts = dict[str, dict[str, Any]]
"""Filters by key, each as a table of its conditions."""


def joined(
    wish: Wish, wanted: Sequence[str], avoided: Sequence[str], vocabulary: Vocabulary
) -> Wish:
    """What the rules read, with what a model read beside it. What it wants only moves the order;
    what it avoids is left out, unless the person names it as wanted."""
    new_avoided = [value for value in avoided if value not in {*wish.wanted, *wish.avoided}]
    new_wanted = [value for value in wanted if value not in {*wish.wanted, *wish.avoided, *avoided}]
    filters, soft = _parts(wish.filters), _parts(wish.soft)
    _add(new_avoided, filters, "none", vocabulary)
    _add(new_wanted, soft, "any", vocabulary)
    return wish.model_copy(
        update={
            "wanted": [*wish.wanted, *new_wanted],
            "avoided": [*wish.avoided, *new_avoided],
            "filters": _filters(filters),
            "soft": _filters(soft),
            "words": wish.words | {value: vocabulary.spellings(value) for value in new_avoided},
            "source": "model",
        }
    )


def turned(wish: Wish, refused: Sequence[str], vocabulary: Vocabulary) -> Wish:
    """The wish with values that the rules took for wanted refused instead."""
    filters = _parts(wish.filters)
    for key in {key for value in refused for key in vocabulary.keys_of(value)} & {*filters}:
        for name in {"any", "all"} & {*filters[key]}:
            left = [value for value in filters[key].pop(name) if value not in refused]
            filters[key] |= {name: left} if left else {}
    _add(refused, filters, "none", vocabulary)
    return wish.model_copy(
        update={
            "wanted": [value for value in wish.wanted if value not in refused],
            "avoided": [*wish.avoided, *refused],
            "filters": _filters(filters),
            "named": {value: said for value, said in wish.named.items() if value not in refused},
            "words": wish.words | {value: vocabulary.spellings(value) for value in refused},
            "source": "model",
        }
    )


def corrected(wish: Wish, given: Understood, vocabulary: Vocabulary) -> Wish:
    """The wish that a request spells out itself. Values of the catalogue that are only listed as
    wanted move the order; those listed as avoided are left out."""
    filters, soft = _parts(given.filters), _parts(given.soft)
    values = {word: vocabulary.value_of(word) for word in [*given.avoided, *given.wanted]}
    _add(filter(None, map(values.get, given.avoided)), filters, "none", vocabulary)
    _add(filter(None, map(values.get, given.wanted)), soft, "any", vocabulary)
    words: dict[str, tuple[str, ...]] = {}
    for word in given.avoided:
        value = values[word]
        words[value or word] = vocabulary.spellings(value) if value is not None else (word,)
    return wish.model_copy(
        update={
            **given.model_dump(include={"wanted", "avoided", "like"}),
            "filters": _filters(filters),
            "soft": _filters(soft),
            "words": words,
            "named": {},
            "than": {},
            "source": "request",
        }
    )


def _parts(filters: Mapping[str, Filter]) -> Parts:
    return {key: one.model_dump(exclude_none=True) for key, one in filters.items()}


def _filters(parts: Parts) -> dict[str, Filter]:
    return {key: Filter.model_validate(each) for key, each in parts.items()}


def _add(values: Iterable[str], into: Parts, name: str, vocabulary: Vocabulary) -> None:
    """Adds values of the catalogue to the conditions on their keys, once each."""
    for value in values:
        for key in vocabulary.keys_of(value):
            listed = into.setdefault(key, {}).setdefault(name, [])
            if value not in listed:
                listed.append(value)
