"""Fills a caller's JSON schema from the picks of an answer, by the names of its fields.

No model takes part: a field holds what is known of a pick, nothing made up. Where nothing is known,
a field gets null if the schema allows that, else the emptiest value that it allows.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import floor, inf
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError, validators
from referencing import Registry
from referencing.exceptions import Unresolvable

from service.errors import BadRequest

DEPTH = 12
VALUES = 20_000
LONGEST = 10_000
"""`DEPTH`, `VALUES` and `LONGEST` bound an answer, as schemas may be recursive: its depth, its
number of values, and the characters of a text."""
PARTS = 3_000
"""How many values a schema may be made of."""
UNSAFE = {"pattern", "patternProperties"}
"""Keywords that are refused: a stranger's regular expression may take for ever."""
NAMED = {"properties", "$defs", "definitions", "dependentSchemas"}
"""Keywords whose value is an object with keys that the caller chose, which are no keywords."""
DATA = {"const", "enum", "default", "examples", "required", "type"}
"""Keywords that hold values, not schemas."""
SAYS_NOTHING = {"", "other", "others", "unknown", "none", "n/a", "unspecified"}
"""Values of an enumeration that claim nothing."""
ALIKE = 0.75
"""Least similarity, as a ratio in [0, 1], at which a field's name is taken for a known name."""
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
"""By name of a pick's field: the names under which a caller's schema may ask for it."""


def check(schema: Mapping[str, Any]) -> None:
    """Raises `BadRequest` for what is no JSON schema, and for one that could keep the service
    busy."""
    try:
        _check_size(schema)
        Draft202012Validator.check_schema(schema)
    except ValueError as error:
        raise BadRequest(f"response_format: {error}", param="response_format") from error
    except (SchemaError, RecursionError) as error:
        raise BadRequest(
            f"response_format: not a JSON schema: {str(error)[:200]}", param="response_format"
        ) from error


def _check_size(schema: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a schema of too many parts, or with a refused keyword."""
    pending: list[tuple[Any, bool]] = [(schema, True)]
    for _ in range(PARTS + 1):
        if not pending:
            return
        part, is_schema = pending.pop()
        if isinstance(part, list):
            pending += [(child, is_schema) for child in part]
        elif isinstance(part, Mapping):
            for key, value in part.items():
                if is_schema and key in UNSAFE:
                    raise ValueError(f"{key} is not supported")
                names = is_schema and key in NAMED and isinstance(value, Mapping)
                children = value.values() if names else [value]
                pending += [(child, is_schema and key not in DATA) for child in children]
    raise ValueError(f"the schema has more than {PARTS} parts")


def filled(schema: Mapping[str, Any], text: str, picks: Sequence[Mapping[str, Any]]) -> Any:
    """Returns a value that a checked schema allows; for the schema {}, an object with `text` and
    `recommendations`. `picks`: each with title, reason, item_id, rank, score, evidence and the
    item's attributes.

    Raises `BadRequest` if the known values can't fill the schema.
    """
    if not schema:
        return {"text": text, "recommendations": [dict(pick) for pick in picks]}
    outside = {**(picks[0] if picks else {}), "text": text, "count": len(picks)}
    try:
        value = _Filler(schema, picks, outside).value(schema, "", outside, 0)
        # an empty registry: nothing is fetched, whatever $ref says
        _bounded_validator()(schema, registry=Registry()).validate(value)
    except WRONG as error:
        why = error.message if isinstance(error, ValidationError) else str(error) or repr(error)
        raise BadRequest(
            f"response_format: no answer of ours fits this schema: {why[:200]}",
            param="response_format",
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
"""What filling and validating raise for a schema that no answer fits."""


def _bounded_validator() -> Any:
    """Returns a validator class that raises `ValueError` after `VALUES` rules: references may
    double the work at every step."""
    steps = iter(range(VALUES))

    def counted(rule: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def apply(*arguments: Any) -> Iterator[Any]:
            if next(steps, None) is None:
                raise ValueError(f"to validate it takes more than {VALUES} steps")
            yield from rule(*arguments) or ()

        return apply

    rules = {**Draft202012Validator.VALIDATORS, "uniqueItems": _check_unique}
    bounded = {name: counted(rule) for name, rule in rules.items()}
    return validators.extend(Draft202012Validator, bounded)  # type: ignore[no-untyped-call]


def _check_unique(
    validator: Any, wanted: Any, value: Any, schema: Any
) -> Iterator[ValidationError]:
    """The rule `uniqueItems` in one pass; the library compares every item with every other."""
    if wanted and isinstance(value, list) and len(set(map(_canonical, value))) < len(value):
        yield ValidationError("items are not unique")


def _canonical(value: Any) -> str:
    """The same text for equal values of JSON."""
    return json.dumps(value, sort_keys=True)


class _NotAllowed(ValueError):
    """What is known of a pick is none of the values that the schema allows."""


PickFields = Mapping[str, Any]


@dataclass(frozen=True)
class _Filler:
    """Makes values for a schema's parts. `root`: the whole schema; `outside`: what is known for
    parts that are about no single pick; `steps`: one for each value that may still be made."""

    root: Mapping[str, Any]
    picks: Sequence[PickFields]
    outside: PickFields
    steps: Iterator[int] = field(default_factory=lambda: iter(range(VALUES)))

    def value(self, schema: Any, name: str, pick: PickFields, depth: int) -> Any:
        """Returns a value for a part of the schema. `name`: the field's name; `pick`: the fields of
        the pick that the part is about, or `outside`. Raises `ValueError` if the answer is too deep
        or too large."""
        if depth > DEPTH or next(self.steps, None) is None:
            raise ValueError(f"nested deeper than {DEPTH}, or more than {VALUES} values")
        if not isinstance(schema, Mapping):
            return None
        if "$ref" in schema:
            return self.value(self._at(schema["$ref"]), name, pick, depth + 1)
        if "const" in schema:
            return schema["const"]
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self._first_of(schema[several], name, pick, depth)
        if "allOf" in schema:
            merged = {key: value for part in schema["allOf"] for key, value in part.items()}
            merged |= {key: value for key, value in schema.items() if key != "allOf"}
            return self.value(merged, name, pick, depth + 1)
        if "enum" in schema:
            return self._chosen(schema["enum"], name, self._known(name, pick))
        return self._typed(schema, name, pick, depth)

    def _chosen(self, choices: Sequence[Any], name: str, known: Any) -> Any:
        """Returns the first choice that equals the known value or a part of it, else the first that
        claims nothing (null or `SAYS_NOTHING`), else, if nothing is known, the first. Raises
        `_NotAllowed` if what is known is none of the choices."""
        parts = {str(part).casefold() for part in (known if isinstance(known, list) else [known])}
        held = [
            choice
            for choice in choices
            if choice is not None and (choice == known or str(choice).casefold() in parts)
        ]
        silent = [
            choice
            for choice in choices
            if choice is None or (isinstance(choice, str) and choice.casefold() in SAYS_NOTHING)
        ]
        if held or silent:
            return [*held, *silent][0]
        if known in (None, [], ""):
            return choices[0]
        raise _NotAllowed(f"{name}: {known!r} is none of {list(choices)[:10]}; allow null")

    def _typed(self, schema: Mapping[str, Any], name: str, pick: PickFields, depth: int) -> Any:
        """A value of the schema's type; of several types the first that isn't null."""
        types = schema.get("type", "object" if "properties" in schema else "string")
        types = [types] if isinstance(types, str) else types
        kind = next((type_ for type_ in types if type_ != "null"), "null")
        known = self._known(name, pick)
        if kind == "object":
            return {
                field: self.value(part, field, pick, depth + 1)
                for field, part in schema.get("properties", {}).items()
            }
        if kind == "array":
            return self._list(schema, name, pick, known, depth)
        if known is None and "null" in types:
            return None
        if kind == "string":
            return _text(schema, name, known)
        if kind in {"integer", "number"}:
            return _number(schema, kind, known)
        return bool(known) if kind == "boolean" else None

    def _list(
        self, schema: Mapping[str, Any], name: str, pick: PickFields, known: Any, depth: int
    ) -> list[Any]:
        """Fills a list. Outside of a pick it has one element for each pick: an object, or the
        pick's title. Within a pick it has the elements of the pick's field `name`."""
        inner = schema.get("items", {})
        shape = self._at(inner["$ref"]) if "$ref" in inner else inner
        least = schema.get("minItems", 0)
        if pick is self.outside:
            values = self._every_pick(
                inner, name if shape.get("type") == "object" else "title", depth
            )
        else:
            parts = known if isinstance(known, list) else []
            values = [self.value(inner, "part", {"part": part}, depth + 1) for part in parts]
        if schema.get("uniqueItems"):
            values = list({_canonical(value): value for value in values}.values())
        if len(values) < least:
            raise ValueError(f"{name or 'the list'}: {len(values)} of at least {least}")
        return values[: schema.get("maxItems")]

    def _every_pick(self, schema: Any, name: str, depth: int) -> list[Any]:
        """Returns a value for each pick. Leaves out picks whose known values the schema doesn't
        allow; raises `_NotAllowed` if no pick would remain."""
        values, refused = list[Any](), list[_NotAllowed]()
        for pick in self.picks:
            try:
                values.append(
                    self.value(schema, name, {**pick, "text": pick.get("reason")}, depth + 1)
                )
            except _NotAllowed as error:
                refused.append(error)
        if refused and not values:
            raise refused[0]
        return values

    def _first_of(self, choices: Sequence[Any], name: str, pick: PickFields, depth: int) -> Any:
        """Returns the value of the first choice that can be filled and isn't empty; else null if
        that is a choice or no choice can be filled; else the first empty value."""
        empty: list[Any] = []
        for choice in choices:
            try:
                value = self.value(choice, name, pick, depth + 1)
            except (LookupError, TypeError, ValueError):
                continue
            if value not in (None, "", [], {}):
                return value
            empty.append(value)
        return None if {"type": "null"} in choices or not empty else empty[0]

    def _known(self, name: str, known: PickFields) -> Any:
        """Returns the value in `known` for a field's name: under that name, its last word, a name
        that means the same, or the most similar name. Returns None if there is no such value."""
        snake = "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
        snake = snake.strip("_").lower()
        last = snake.split("_")[-1]
        names = [snake, last, snake.removesuffix("s")]
        names += [ours for ours, theirs in NAMES.items() if snake in theirs or last in theirs]
        matching = [candidate for candidate in names if candidate in known]
        matching = matching or get_close_matches(snake, known, n=1, cutoff=ALIKE)
        return known[matching[0]] if matching else None

    def _at(self, reference: str) -> Any:
        """The part of the schema that a reference such as `#/$defs/Film` names."""
        part: Any = self.root
        for step in reference.removeprefix("#/").split("/"):
            part = part[step.replace("~1", "/").replace("~0", "~")] if step != "#" else part
        return part


def _text(schema: Mapping[str, Any], name: str, known: Any) -> str:
    """Formats a known value as a text within the schema's lengths. Raises `ValueError` if the text
    doesn't have the schema's format."""
    known = [] if known is None else known
    text = ", ".join(map(str, known)) if isinstance(known, list) else str(known)
    form = schema.get("format")
    if form and not (text and Draft202012Validator.FORMAT_CHECKER.conforms(text, form)):
        raise ValueError(f"{name}: no {form} is known; allow null")
    padded = text[:LONGEST].ljust(min(schema.get("minLength", 0), LONGEST), ".")
    return padded[: schema.get("maxLength")]


def _number(schema: Mapping[str, Any], kind: str, known: Any) -> Any:
    """Returns the known number, else 0, moved within the schema's bounds; rounded down first if
    `kind` is `integer`."""
    number: Any = known if isinstance(known, int | float) and not isinstance(known, bool) else 0
    number = floor(number) if kind == "integer" else number
    above, below = schema.get("exclusiveMinimum", -inf), schema.get("exclusiveMaximum", inf)
    between = above > -inf and below < inf and kind != "integer"
    step = min(1, (below - above) / 2) if between else 1
    number = min(max(number, schema.get("minimum", -inf)), schema.get("maximum", inf))
    number = above + step if number <= above else number
    return below - step if number >= below else number
