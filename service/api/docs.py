"""`/docs`: a page to read and try the OpenAPI, which loads nothing from other hosts."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

router = APIRouter(include_in_schema=False)

SWAGGER_UI = Path(str(files("fastapi_offline"))) / "static"
"""Where the package `fastapi_offline` keeps Swagger UI's files."""
SELF_CONTAINED = {"content-security-policy": "default-src 'self' 'unsafe-inline' data:"}
"""Tells a browser to fetch nothing from elsewhere, whatever a later Swagger UI may ask for."""


@router.api_route("/docs", methods=["GET", "HEAD"])
async def page() -> HTMLResponse:
    """Its addresses are relative, so that it also works behind a proxy that strips a prefix."""
    swagger = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="whyrank",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    return HTMLResponse(swagger.body, headers=SELF_CONTAINED)


@router.get("/docs/swagger-ui-bundle.js")
async def script() -> FileResponse:
    return FileResponse(SWAGGER_UI / "swagger-ui-bundle.js")


@router.get("/docs/swagger-ui.css")
async def style() -> FileResponse:
    return FileResponse(SWAGGER_UI / "swagger-ui.css")
