"""The page's application: its files, and what they ask for under `/api`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from app.live.child import Child
from app.live.guard import Guard
from app.live.health import Health
from app.live.hops import Hops
from app.live.source import ROWS_MAX, Edit, Refused, Rows, Source, Statement

STATIC = Path(__file__).parent / "static"
# The only files that are served; no path of a request is ever one of the disk.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
TOKEN_PLACE = "{{token}}"


def hosts_of(port: int) -> list[str]:
    """The names by which the page is reached on this machine."""
    return [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]


def make_page(
    source: Source,
    watch: Sequence[str],
    compare: Sequence[str],
    health: Health,
    *,
    port: int,
    token: str,
) -> ASGIApp:
    """The page, guarded.

    Args:
        source: what it shows and edits.
        watch: the command that prints each hop of each change.
        compare: the command that is given rows' keys and tells both sides.
        health: tells how the stack is.
        port: where it is served, on loopback.
        token: alphanumeric; the page carries it, and sends it back with what changes something.
    """
    hops = Hops(watch)
    sides = Child(compare)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await hops.stop()

    # No schema and no pages of documentation: those load scripts from elsewhere.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _http)
    for path, (name, kind) in FILES.items():
        content = (STATIC / name).read_text(encoding="utf-8").replace(TOKEN_PLACE, token)
        app.add_api_route(path, _file(content, kind), methods=["GET"])

    @app.get("/api/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/api/tables")
    def tables() -> list[dict[str, Any]]:
        return source.tables()

    @app.get("/api/rows")
    def rows(
        table: str = Query(max_length=200),
        offset: int = Query(0, ge=0, le=10_000_000),
        limit: int = Query(25, ge=1, le=ROWS_MAX),
        descending: bool = False,
    ) -> dict[str, Any]:
        return source.rows(table, offset=offset, limit=limit, descending=descending)

    @app.post("/api/edit")
    def edit(given: Edit) -> dict[str, Any]:
        return source.edit(given)

    @app.post("/api/sql")
    def run(given: Statement) -> list[dict[str, Any]]:
        return source.run(given)

    @app.post("/api/compare")
    def compared(given: Rows) -> Any:
        return sides.ask(given.model_dump())

    @app.get("/api/health")
    def looked() -> dict[str, Any]:
        return health.look()

    @app.get("/api/hops")
    async def events(last_event_id: str = Header("", max_length=40)) -> StreamingResponse:
        return StreamingResponse(hops.events(last_event_id), media_type="text/event-stream")

    return Guard(app, hosts=hosts_of(port), token=token)


def _file(content: str, kind: str) -> Any:
    def file() -> Response:
        return Response(content, media_type=kind)

    return file


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.told}, error.status)


def _not_understood(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    [first, *_rest] = error.errors()
    place = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"error": {"message": f"{place}: {first['msg']}"}}, 422)


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"message": str(error.detail)}}, error.status_code)
