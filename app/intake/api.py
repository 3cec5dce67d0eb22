"""The HTTP application: `POST /api/v1/streams/<stream>/events`, with a token."""

from __future__ import annotations

import secrets
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from app.intake.take import (
    RETRY_AFTER_S,
    Budget,
    Producer,
    Streams,
    Taken,
    Unavailable,
    events_in,
    take,
)

BODY_BYTES_MAX = 8 << 20
# Of all requests together; each waits for the broker's word.
BODIES_BYTES_MAX = 32 << 20


class Figures:
    """What the service tells Prometheus."""

    def __init__(self, budget: Budget) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "headwater_intake_events",
            "Events by what became of them",
            ["stream", "outcome"],
            registry=self.registry,
        )
        self.requests = Counter(
            "headwater_intake_requests",
            "Requests by the status of their answer",
            ["status"],
            registry=self.registry,
        )
        held = Gauge(
            "headwater_intake_held_bytes", "Bytes of requests under way", registry=self.registry
        )
        held.set_function(lambda: budget.held)

    def count(self, stream: str, taken: Taken) -> None:
        """Count a request's events."""
        counts = (
            ("accepted", taken.accepted),
            ("refused", len(taken.refused)),
            ("unknown", len(taken.unknown)),
        )
        for outcome, count in counts:
            if count:
                self.events.labels(stream, outcome).inc(count)


def make_api(
    streams: Streams,
    producer: Producer,
    *,
    prefix: str,
    token: str,
    bodies_bytes_max: int = BODIES_BYTES_MAX,
) -> FastAPI:
    """The application.

    Args:
        prefix: of the topics.
        token: what a request carries as `Authorization: Bearer TOKEN`. A browser sends that for no
            other site's page without asking here first, and nothing here answers such a question.
        bodies_bytes_max: of requests under way; beyond it they are refused with 429.
    """
    budget = Budget(bodies_bytes_max)
    figures = Figures(budget)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        return _answer(error.status_code, {"error": {"message": str(error.detail)}})

    @app.get("/api/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(figures.registry), media_type="text/plain; version=0.0.4")

    @app.post("/api/v1/streams/{stream}/events")
    async def events(stream: str, request: Request) -> Response:
        try:
            _authorise(request, token)
            declared, judge = await run_in_threadpool(streams.named, stream)
            with budget.hold(_length(request)):
                body = await _body(request)

                def work() -> Taken:
                    return take(declared, judge, producer, prefix, events_in(body))

                taken = await run_in_threadpool(work)
            figures.count(stream, taken)
            status, document = taken.status, taken.as_dict()
        except Unavailable as refused:
            status, document = refused.status, {"error": refused.told}
        figures.requests.labels(status).inc()
        return _answer(status, document)

    return app


def _authorise(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "").encode("latin-1", "replace")
    if not secrets.compare_digest(given, f"Bearer {token}".encode()):
        hint = "Authorization: Bearer TOKEN; `./headwater streams` tells the token's place"
        raise Unavailable(401, "the token is missing or wrong", hint)
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise Unavailable(415, "send JSON: Content-Type: application/json")


def _length(request: Request) -> int:
    given = request.headers.get("content-length", "")
    if not given.isdecimal():
        raise Unavailable(411, "the request does not tell its length")
    if int(given) > BODY_BYTES_MAX:
        raise Unavailable(413, f"the body is larger than {BODY_BYTES_MAX >> 20} MiB")
    return int(given)


async def _body(request: Request) -> bytes:
    # The server cuts a body at its Content-Length, which the budget holds already.
    return await request.body()


def _answer(status: int, document: Any) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if status in (429, 503):
        headers["retry-after"] = str(RETRY_AFTER_S)
    return Response(orjson.dumps(document), status, headers, "application/json")
