"""What routes need, said once as types."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Request
from pydantic_core import from_json

from service.errors import BadRequest
from service.pipeline import Recommender
from service.schema import Id, IngestReport, Rejection


def _recommender(request: Request) -> Recommender:
    found: Recommender = request.app.state.recommender
    return found


class NothingTaken(BadRequest):
    """Every element of a feed was refused."""

    code = "nothing_accepted"


class Feed:
    """The elements of a feed's body: one object, an array, or JSON lines; a line that isn't JSON costs itself only."""

    def __init__(self, rows: list[Any], places: list[int], broken: list[Rejection]) -> None:
        self.rows = rows
        self._places = places
        self._broken = broken

    def report(self, taken: IngestReport) -> IngestReport:
        """The report with indexes of the body. Raises `NothingTaken` if not one element was."""
        moved = [one.model_copy(update={"index": self._places[one.index]}) for one in taken.rejected]
        rejected = sorted([*self._broken, *moved], key=lambda one: one.index)
        if rejected and not taken.accepted and not taken.duplicates:
            more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
            raise NothingTaken(f"element {rejected[0].index}: {rejected[0].message}{more}")
        return taken.model_copy(update={"rejected": rejected})


async def _feed(request: Request) -> Feed:
    body = await request.body()
    limit = request.app.state.recommender.settings.limits.batch
    broken: list[Rejection] = []
    try:
        whole = from_json(body, allow_inf_nan=False)
        rows = whole if isinstance(whole, list) else [whole]
        places = list(range(len(rows)))
    except ValueError as error:
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) < 2:
            raise BadRequest(f"the body is not JSON: {error}") from error
        rows, places = [], []
        for index, line in enumerate(lines):
            try:
                rows.append(from_json(line, allow_inf_nan=False))
                places.append(index)
            except ValueError as reason:
                broken.append(Rejection(index=index, code="invalid", message=f"not JSON: {reason}"))
    if not rows and not broken:
        raise BadRequest("the body holds nothing: send one object, an array, or JSON lines")
    if len(rows) + len(broken) > limit:
        raise BadRequest(f"{len(rows) + len(broken)} elements; at most {limit} a request (limits.batch)")
    return Feed(rows, places, broken)


RecommenderDep = Annotated[Recommender, Depends(_recommender)]
FeedDep = Annotated[Feed, Depends(_feed)]
PathId = Annotated[Id, Path(description="The caller's own id.")]


def feed_body(noun: str) -> dict[str, Any]:
    """OpenAPI for a feed's body."""
    one = {"$ref": f"#/components/schemas/{noun}"}
    schema = {"anyOf": [one, {"type": "array", "items": one}]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}, "application/x-ndjson": {}}}}
