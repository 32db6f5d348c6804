"""An answer in a shape of the caller's: a JSON schema filled from picks, by the names of its
fields.

No model: what stands in a field is what is known, never what sounds well. A field that nothing is
known for gets null where that is allowed, else the emptiest value that is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from math import floor
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from service.errors import BadRequest

DEPTH = 12
VALUES = 20_000
LONGEST = 10_000
"""Schemas may be recursive and may ask for the moon; answers end here."""
PARTS = 3_000
"""A schema is made of at most so many values."""
UNSAFE = {"pattern", "patternProperties"}
"""A stranger's regular expression may take for ever."""
NAMED = {"properties", "$defs", "definitions", "dependentSchemas"}
"""Under these, keys are names."""
DATA = {"const", "enum", "default", "examples", "required", "type"}
"""Under these are values, not schemas."""
SAYS_NOTHING = {"", "other", "others", "unknown", "none", "n/a", "unspecified"}
"""Values of an enumeration that claim nothing."""
ALIKE = 0.75
"""From this likeness on a field's name means a known one: `movieTitle`, `movie_title` and `title`
do."""
NAMES = {
    "title": (
        "title",
        "name",
        "label",
        "item",
        "movie",
        "film",
        "book",
        "product",
        "song",
        "headline",
    ),
    "reason": (
        "reason",
        "why",
        "explanation",
        "justification",
        "rationale",
        "description",
        "because",
    ),
    "item_id": ("item_id", "id", "identifier", "sku", "key"),
    "rank": ("rank", "position", "index", "place", "number"),
    "score": ("score", "relevance", "relevance_score", "confidence", "probability"),
    "evidence": ("evidence", "based_on", "because_of"),
    "text": ("text", "message", "summary", "answer", "content", "intro", "comment", "response"),
}


def check(schema: Mapping[str, Any]) -> None:
    """Raises `BadRequest` for what is no JSON schema, or one that could keep the service busy."""
    try:
        _sized(schema)
        Draft202012Validator.check_schema(schema)
    except ValueError as error:
        raise BadRequest(f"response_format: {error}", param="response_format") from error
    except (SchemaError, RecursionError) as error:
        raise BadRequest(
            f"response_format: not a JSON schema: {str(error)[:200]}", param="response_format"
        ) from error


def _sized(schema: Mapping[str, Any]) -> None:
    left: list[tuple[Any, bool]] = [(schema, True)]
    for _ in range(PARTS + 1):
        if not left:
            return
        part, is_schema = left.pop()
        if isinstance(part, Mapping):
            if is_schema and (unsafe := UNSAFE & part.keys()):
                raise ValueError(f"{unsafe.pop()} is not supported")
            for key, value in part.items():
                inner = (
                    value.values()
                    if is_schema and key in NAMED and isinstance(value, Mapping)
                    else [value]
                )
                left += [(one, is_schema and key not in DATA) for one in inner]
        elif isinstance(part, list):
            left += [(one, is_schema) for one in part]
    raise ValueError(f"the schema has more than {PARTS} parts")


def filled(schema: Mapping[str, Any], text: str, picks: Sequence[Mapping[str, Any]]) -> Any:
    """A value that a checked schema allows; for {}, an object of ours. `picks`: each with title,
    reason, item_id, rank, score, evidence and the item's attributes.

    Raises `BadRequest` where known values can't fill it.
    """
    if not schema:
        return {"text": text, "recommendations": [dict(pick) for pick in picks]}
    outside = {**(picks[0] if picks else {}), "text": text, "count": len(picks)}
    try:
        value = _Filler(schema, picks, outside).value(schema, "", None, 0)
        _bounded()(schema, registry=Registry()).validate(
            value
        )  # nothing is fetched, whatever $ref says
    except WRONG as error:
        why = (error.message if isinstance(error, ValidationError) else str(error) or repr(error))[
            :200
        ]
        raise BadRequest(
            f"response_format: no answer of ours fits this schema: {why}", param="response_format"
        ) from error
    return value


WRONG = (
    ValidationError,
    Unresolvable,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)
"""What filling and validating raise where a schema fits no answer."""


def _bounded() -> Any:
    """A validator that applies so many rules and no more: references may double the work at every
    step."""
    left = VALUES

    def counted(rule: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def one(*asked: Any) -> Iterator[Any]:
            nonlocal left
            left -= 1
            if left < 0:
                raise ValueError(f"to validate it takes more than {VALUES} steps")
            yield from rule(*asked) or ()

        return one

    rules = {**Draft202012Validator.VALIDATORS, "uniqueItems": _unique}
    return extend(Draft202012Validator, {name: counted(rule) for name, rule in rules.items()})  # type: ignore[no-untyped-call]


def _unique(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """In one pass, where the library compares each with each."""
    if wanted and isinstance(value, list) and len({_plain(one) for one in value}) < len(value):
        yield ValidationError("items are not unique")


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


class _Untold(ValueError):
    """What is known of a pick can't be told in the words that the schema allows."""


Known = Mapping[str, Any] | None


class _Filler:
    """`outside`: what may be told where no pick is spoken of."""

    def __init__(
        self,
        root: Mapping[str, Any],
        picks: Sequence[Mapping[str, Any]],
        outside: Mapping[str, Any],
    ) -> None:
        self._root = root
        self._picks = picks
        self._outside = outside
        self._left = VALUES

    def value(self, schema: Any, name: str, one: Known, depth: int) -> Any:
        """`name`: the field's; `one`: the pick that it speaks of."""
        self._left -= 1
        if depth > DEPTH or self._left < 0:
            raise ValueError(f"nested deeper than {DEPTH}, or more than {VALUES} values")
        if not isinstance(schema, Mapping):
            return None
        if "$ref" in schema:
            return self.value(self._at(schema["$ref"]), name, one, depth + 1)
        if "const" in schema:
            return schema["const"]
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self._one_of(schema[several], name, one, depth)
        if "allOf" in schema:
            merged = {key: part for every in schema["allOf"] for key, part in every.items()}
            return self.value(
                {**merged, **{k: v for k, v in schema.items() if k != "allOf"}},
                name,
                one,
                depth + 1,
            )
        if "enum" in schema:
            return self._chosen(schema["enum"], name, self._known(name, one))
        return self._typed(schema, name, one, depth)

    def _chosen(self, choices: Sequence[Any], name: str, told: Any) -> Any:
        """The first that is known to hold. Else one that claims nothing; where nothing is known
        that could belie it, any."""
        known = {str(part).casefold() for part in (told if isinstance(told, list) else [told])}
        for choice in choices:
            if choice is not None and (choice == told or str(choice).casefold() in known):
                return choice
        for choice in choices:
            if choice is None or (isinstance(choice, str) and choice.casefold() in SAYS_NOTHING):
                return choice
        if told in (None, [], ""):
            return choices[0]
        raise _Untold(f"{name}: {told!r} is none of {list(choices)[:10]}; allow null")

    def _typed(self, schema: Mapping[str, Any], name: str, one: Known, depth: int) -> Any:
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kind = (
            kinds
            if isinstance(kinds, str)
            else next((one for one in kinds if one != "null"), "null")
        )
        told = self._known(name, one)
        if (
            told is None
            and not isinstance(kinds, str)
            and "null" in kinds
            and kind not in {"object", "array"}
        ):
            return None
        if kind == "object":
            fields = schema.get("properties", {})
            return {
                field: self.value(part, field, one, depth + 1) for field, part in fields.items()
            }
        if kind == "array":
            return self._list(schema, name, one, told, depth)
        if kind == "string":
            text = (
                ""
                if told is None
                else ", ".join(map(str, told))
                if isinstance(told, list)
                else str(told)
            )
            if (form := schema.get("format")) and not (
                text and Draft202012Validator.FORMAT_CHECKER.conforms(text, form)
            ):
                raise ValueError(f"{name}: no {form} is known; allow null")
            return text[:LONGEST].ljust(min(schema.get("minLength", 0), LONGEST), ".")[
                : schema.get("maxLength")
            ]
        if kind in {"integer", "number"}:
            return self._number(schema, kind, told)
        return bool(told) if kind == "boolean" else None

    def _list(
        self, schema: Mapping[str, Any], name: str, one: Known, told: Any, depth: int
    ) -> list[Any]:
        """Of objects: the picks; of anything else: a list that is known by that name, else the
        picks' titles."""
        inner = schema.get("items", {})
        shape = self._at(inner["$ref"]) if "$ref" in inner else inner
        most, least = schema.get("maxItems"), schema.get("minItems", 0)
        if one is None:
            single = name if shape.get("type") == "object" else "title"
            found = self._told(inner, single, depth)
        elif isinstance(told, list):
            found = [self.value(inner, "part", {"part": part}, depth + 1) for part in told]
        else:
            found = []
        if schema.get("uniqueItems"):
            found = list({_plain(value): value for value in found}.values())
        if len(found) < least:
            raise ValueError(f"{name or 'the list'}: {len(found)} of at least {least}")
        return found[:most]

    def _told(self, schema: Any, name: str, depth: int) -> list[Any]:
        """The picks; without those that can't be told in this schema's words, unless that leaves
        none."""
        found, untold = list[Any](), list[_Untold]()
        for pick in self._picks:
            try:
                found.append(
                    self.value(schema, name, {**pick, "text": pick.get("reason")}, depth + 1)
                )
            except _Untold as error:
                untold.append(error)
        if untold and not found:
            raise untold[0]
        return found

    def _number(self, schema: Mapping[str, Any], kind: str, told: Any) -> int | float:
        """What is known, else 0; the nearest that the bounds allow."""
        number = told if isinstance(told, int | float) and not isinstance(told, bool) else 0
        number = floor(number) if kind == "integer" else number
        low, high = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        step = (
            1
            if kind == "integer" or above is None or below is None
            else min(1, (below - above) / 2)
        )
        number = number if low is None else max(number, low)
        number = number if high is None else min(number, high)
        number = above + step if above is not None and number <= above else number
        return below - step if below is not None and number >= below else number

    def _one_of(self, choices: Sequence[Any], name: str, one: Known, depth: int) -> Any:
        """The first that gives something valid and not empty, else null where that is a choice."""
        first: list[Any] = []
        for choice in choices:
            try:
                value = self.value(choice, name, one, depth + 1)
            except (LookupError, TypeError, ValueError):
                continue
            if value not in (None, "", [], {}):
                return value
            first.append(value)
        if {"type": "null"} in choices or not first:
            return None
        return first[0]

    def _known(self, name: str, one: Known) -> Any:
        """By its name, by a name that means the same, by the last part of a longer one."""
        known = self._outside if one is None else one
        plain = (
            "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
            .strip("_")
            .lower()
        )
        for name in (plain, plain.split("_")[-1], plain.removesuffix("s")):
            if name in known:
                return known[name]
        for ours, theirs in NAMES.items():
            if ours in known and (plain in theirs or plain.split("_")[-1] in theirs):
                return known[ours]
        close = max(known, key=lambda ours: SequenceMatcher(None, ours, plain).ratio(), default="")
        return (
            known[close] if close and SequenceMatcher(None, close, plain).ratio() >= ALIKE else None
        )

    def _at(self, reference: str) -> Any:
        """A part of the same document: `#/$defs/Film`."""
        part: Any = self._root
        for step in reference.removeprefix("#/").split("/"):
            part = part[step.replace("~1", "/").replace("~0", "~")] if step != "#" else part
        return part
