"""The page's application: its files, and the requests under `/api`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from app.hops import HOPS
from app.page.answers import ROWS_MAX, Refused
from app.page.described_tables import DescribedTables
from app.page.hop_watch import Hops
from app.page.lake_child import Child, Lasting
from app.page.request_guard import Guard
from app.page.source_rows import Edit, Rows, Source, Statement
from app.page.stack_health import PART_S, Health
from app.page.trino_sql import Trino

STATIC = Path(__file__).parent / "static"
# The only files that are served; a request's path is never used as a path of the disk.
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
SCRIPTS = (
    "core.js", "stream.js", "tabs.js", "store.js", "sides.js", "flow.js", "lake.js", "health.js",
    "rows.js", "catalogue.js", "graph.js", "page.js",
)  # fmt: skip
# A module that is not a file: what each hop means.
HOPS_JS = "/hops.js"
FILES = {"/": "index.html", **{f"/{name}": name for name in (*SCRIPTS, "page.css")}}
ENTRIES_MAX = 200
ANSWER_ROWS_MAX = 500
# TOPIC/PARTITION/OFFSET
ENTRY = r"^[^\s/]+/\d+/\d+$"
# Seconds to wait for the silver job, which answers between two batches.
WAIT_S = "30"

Name = Annotated[str, Query(min_length=1, max_length=200)]


class Resolution(BaseModel):
    """Entries of the quarantine that are to be replayed or discarded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["replay", "discard"]
    entries: list[Annotated[str, Field(pattern=ENTRY, max_length=300)]] = Field(
        min_length=1, max_length=ENTRIES_MAX
    )
    # Column → text, or None for NULL: the values with which the one entry is replayed.
    values: dict[str, str | None] | None = Field(None, min_length=1, max_length=1_700)

    @model_validator(mode="after")
    def _one_is_edited(self) -> Resolution:
        if self.values is not None and (self.action != "replay" or len(self.entries) != 1):
            raise ValueError("values are for the replay of one entry")
        return self


def hosts_of(port: int) -> list[str]:
    """Return the Host names under which browsers on this machine reach the page."""
    return [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]


@dataclass(frozen=True)
class Parts:
    """The parts that the page is built from.

    Args:
        source: the database that the page shows and edits.
        trino: runs SQL on the lake.
        health: observes the stack.
        command: `headwater`; its verbs that read the lake run in processes of their own.
        sides: a command that reads rows' keys, a JSON line for each request, and answers with both
            sides.
    """

    source: Source
    trino: Trino
    health: Health
    command: Sequence[str]
    sides: Sequence[str]


def make_page(parts: Parts, *, ports: Iterable[int], token: str) -> ASGIApp:
    """Make the page's application behind its guard.

    Args:
        ports: the ports at which people open it, on loopback of their machine.
        token: must be in each request under `/api`; no answer holds it.
    """
    sides = Lasting(parts.sides)
    hops = Hops([*parts.command, "watch", "--hops", "--follow-stdin", "--format", "json"])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await hops.stop()
        await run_in_threadpool(sides.close)

    # There are no pages of documentation, because those load scripts from elsewhere.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for path, name in FILES.items():
        content = (STATIC / name).read_text(encoding="utf-8")
        kind = f"{_KINDS[Path(name).suffix]}; charset=utf-8"
        app.add_api_route(path, _file(content, kind), methods=["GET"])
    means = json.dumps({hop.name: hop.means for hop in HOPS})
    script = f"export const MEANS = {means};\n"
    app.add_api_route(HOPS_JS, _file(script, "text/javascript; charset=utf-8"), methods=["GET"])

    @app.get("/api/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    _add_store(app, parts.source, hops)
    _add_lake(app, parts, sides)
    _add_catalogue(app, DescribedTables(parts.trino))

    @app.get("/api/hops")
    async def events(last_event_id: str = Header("", max_length=40)) -> StreamingResponse:
        return StreamingResponse(hops.events(last_event_id), media_type="text/event-stream")

    return Guard(app, hosts=[host for port in ports for host in hosts_of(port)], token=token)


def _add_store(app: FastAPI, source: Source, hops: Hops) -> None:
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

    @app.get("/api/source")
    def rights() -> dict[str, str | None]:
        return {"read_only": source.read_only()}

    @app.post("/api/edit")
    async def edit(given: Edit) -> dict[str, Any]:
        done = await run_in_threadpool(source.edit, given)
        # This is early enough, because its events arrive at least a tenth of a second later.
        hops.follow(done["transaction"])
        return done

    @app.post("/api/sql")
    def run(given: Statement) -> list[dict[str, Any]]:
        return source.run(given)


def _add_lake(app: FastAPI, parts: Parts, sides: Lasting) -> None:
    command = Child(parts.command)

    @app.post("/api/compare")
    def compared(given: Rows) -> Any:
        return sides.ask(given.model_dump())

    @app.get("/api/health")
    def observed(within_s: float = Query(PART_S, ge=0, le=PART_S)) -> dict[str, Any]:
        return parts.health.observe(within_s)

    @app.get("/api/pulse")
    def pulse() -> list[str]:
        return parts.health.pulse()

    @app.post("/api/ask")
    def asked(given: Statement) -> dict[str, Any]:
        return parts.trino.run(given.sql.strip().rstrip(";"), ANSWER_ROWS_MAX)

    @app.get("/api/trace")
    def traced(
        table: str = Query(min_length=1, max_length=200),
        key: str = Query(min_length=1, max_length=2_000),
    ) -> dict[str, Any]:
        found = command.ask("trace", "--format", "json", "--", table, key)
        return {"versions": found.document, "notes": found.notes}

    @app.get("/api/quarantine")
    def entries(resolved: bool = False) -> dict[str, Any]:
        words = ["quarantine", "list", "--limit", str(ENTRIES_MAX), "--format", "json"]
        found = command.ask(*words, *(["--resolved"] if resolved else []))
        return {"entries": found.document, "notes": found.notes}

    @app.get("/api/quarantine/entry")
    def entry(name: str = Query(pattern=ENTRY, max_length=300)) -> Any:
        return command.ask("quarantine", "show", "--format", "json", "--", name).document

    @app.post("/api/quarantine")
    def resolve(given: Resolution) -> Any:
        words = ["quarantine", given.action, "--wait", WAIT_S, "--format", "json"]
        if given.values is not None:
            words.append("--set-from-stdin")
        return command.ask(*words, "--", *given.entries, given=given.values).document


def _add_catalogue(app: FastAPI, described: DescribedTables) -> None:
    @app.get("/api/catalogue")
    def tables() -> dict[str, Any]:
        return described.all()

    @app.get("/api/catalogue/table")
    def table(schema: Name, name: Name) -> dict[str, Any]:
        return described.table(schema, name)

    @app.get("/api/catalogue/lineage")
    def lineage(
        schema: Name, name: Name, column: str = Query("", max_length=200)
    ) -> dict[str, Any]:
        return described.lineage(schema, name, column)


def _file(content: str, kind: str) -> Any:
    def file() -> Response:
        return Response(content, media_type=kind)

    return file


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.facts}, error.status)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    [first, *_rest] = error.errors()
    place = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"error": {"message": f"{place}: {first['msg']}"}}, 422)


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"message": str(error.detail)}}, error.status_code)
