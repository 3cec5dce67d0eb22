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
from starlette.requests import ClientDisconnect

from app.intake.accept import (
    RETRY_AFTER_S,
    Budget,
    Producer,
    Result,
    Streams,
    Unavailable,
    accept_events,
    events_in,
)

BODY_BYTES_MAX = 8 << 20
# The limit for all requests together; each waits for the broker's confirmation.
BODIES_BYTES_MAX = 32 << 20


class Figures:
    """The service's metrics for Prometheus."""

    def __init__(self, budget: Budget) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "headwater_intake_events",
            "Events by their outcome",
            ["stream", "outcome"],
            registry=self.registry,
        )
        self.requests = Counter(
            "headwater_intake_requests",
            "Requests by the status of their answer",
            ["status"],
            registry=self.registry,
        )
        pending = Gauge(
            "headwater_intake_held_bytes", "Bytes of requests under way", registry=self.registry
        )
        pending.set_function(lambda: budget.used)

    def count(self, stream: str, result: Result) -> None:
        """Count the events of a request by outcome."""
        counts = (
            ("accepted", result.accepted),
            ("refused", len(result.refused)),
            ("unknown", len(result.unknown)),
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
    """Make the application.

    Args:
        prefix: the topics' prefix.
        token: a request must have the header `Authorization: Bearer TOKEN`. A browser sends that
            for
            another site's page only after a preflight request, which nothing here answers.
        bodies_bytes_max: bytes of all requests under way; one beyond it is refused with 429.
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
            with budget.reserved(_length(request)):
                body = await _body(request)

                def accept() -> Result:
                    return accept_events(declared, judge, producer, prefix, events_in(body))

                result = await run_in_threadpool(accept)
            figures.count(stream, result)
            status, document = result.status, result.as_dict()
        except Unavailable as refused:
            status, document = refused.status, {"error": refused.error}
        except ClientDisconnect:  # or its body took too long: the client is no longer reading
            status, document = 408, {"error": {"message": "the body did not come"}}
        figures.requests.labels(status).inc()
        return _answer(status, document)

    return app


def _authorise(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "").encode("latin-1", "replace")
    if not secrets.compare_digest(given, f"Bearer {token}".encode()):
        hint = "Authorization: Bearer TOKEN; `./headwater streams` shows the token's file"
        raise Unavailable(401, "the token is missing or wrong", hint)
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise Unavailable(415, "send JSON: Content-Type: application/json")


def _length(request: Request) -> int:
    given = request.headers.get("content-length", "")
    if not given.isdecimal():
        raise Unavailable(411, "the request has no length")
    if int(given) > BODY_BYTES_MAX:
        raise Unavailable(413, f"the body is larger than {BODY_BYTES_MAX >> 20} MiB")
    return int(given)


async def _body(request: Request) -> bytes:
    # The server cuts a body at its Content-Length, for which the budget has room reserved.
    return await request.body()


def _answer(status: int, document: Any) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if status in (429, 503):
        headers["retry-after"] = str(RETRY_AFTER_S)
    return Response(orjson.dumps(document), status, headers, "application/json")
