"""`/healthz`, `/readyz`, `/metrics`."""

from typing import Any

from fastapi import APIRouter, Response

from service.api.needs import DiagnosticsDep

router = APIRouter(tags=["operations"])

EXPOSITION = "text/plain; version=0.0.4"


@router.get("/healthz", summary="Is the process up?")
async def healthz() -> dict[str, str]:
    """Always `ok` while the process answers; checks no part."""
    return {"status": "ok"}


@router.get("/readyz", summary="Which part is ready, and if not, why")
async def readyz(diagnostics: DiagnosticsDep, response: Response) -> dict[str, Any]:
    """503 if no request can be answered. A missing model only makes the service `degraded`: the
    prior answers then."""
    parts = await diagnostics.readiness()
    usable = parts["store"]["ok"] and parts["catalog"]["ok"]
    response.status_code = 200 if usable else 503
    status = "degraded" if usable else "not ready"
    if all(part["ok"] for part in parts.values()):
        status = "ready"
    return {"status": status, "parts": parts}


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {EXPOSITION: {"schema": {"type": "string"}}}}},
)
async def metrics(diagnostics: DiagnosticsDep) -> Response:
    """Requests and how long they took, rankings, tokens, what was degraded and why, events taken,
    and items without a vector yet."""
    return Response(await diagnostics.metrics(), media_type=EXPOSITION)
