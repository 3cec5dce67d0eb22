"""Of several Connect workers one may not answer, as long as another one does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from app.connectors.worker import Worker, WorkerBusy
from app.environment.settings import load
from app.health.connector_health import ConnectWorkers, observe
from tests.support.serving import serving

NOWHERE = "http://127.0.0.1:9"
RUNNING = {"state": "RUNNING", "worker_id": "b"}
STATUS = {
    "source": {"status": {"type": "source", "connector": RUNNING, "tasks": [{"id": 0, **RUNNING}]}}
}


@contextmanager
def a_worker() -> Iterator[str]:
    """A worker that has the connector `source`, and whose metrics show that it streams."""

    def config(request: Request) -> JSONResponse:
        return JSONResponse({"name": request.path_params["name"]})

    routes = [
        Route("/connectors", lambda _: JSONResponse(STATUS)),
        Route("/connectors/{name}/config", config),
        Route("/metrics", lambda _: PlainTextResponse("debezium_streaming_connected 1.0\n")),
    ]
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes), port=0, log_config=None, ws="none")
    )
    with serving(server) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_request_goes_to_the_worker_that_answers() -> None:
    with a_worker() as living:
        worker = Worker(NOWHERE, living)
        assert worker.config("source") == {"name": "source"}
        assert worker.config("source") == {"name": "source"}
    with pytest.raises(WorkerBusy):
        worker.config("source")


def test_the_connectors_are_well_while_one_worker_answers_and_one_streams() -> None:
    with a_worker() as living:
        seen = observe(ConnectWorkers([NOWHERE, living], [NOWHERE, f"{living}/metrics"]))
    assert (list(seen.statuses), seen.problems) == (["source"], {})
    with pytest.raises(requests.ConnectionError):
        observe(ConnectWorkers([NOWHERE, NOWHERE]))


def test_every_worker_is_asked_and_its_log_is_read(tmp_path: Path) -> None:
    workers = ConnectWorkers.of(load(tmp_path, connect_workers=2))
    assert [url.rpartition("@")[2] for url in workers.urls] == [
        "127.0.0.1:18083",
        "127.0.0.1:18283",
    ]
    assert workers.metrics_urls[1] == "http://127.0.0.1:14252/metrics"
    assert workers.logs[1] == tmp_path / "run" / "connect-2" / "stderr.log"
