"""`python -m app.live`: the service `app`, which serves the page."""

from __future__ import annotations

import logging
import os
import sys

import uvicorn

from app.errors import HeadwaterError
from app.live.health import Health
from app.live.page import Parts, make_page
from app.live.source import Source
from app.live.trino_sql import Trino
from app.settings import Settings, SettingsError, load

CONNECTIONS_MAX = 100
# Browsers that listen for events never end by themselves.
STOP_S = 2
# Services with a page of their own, whose port has their name.
OPENED = ("superset", "grafana", "trino", "prometheus", "alertmanager")


def _link(settings: Settings, name: str) -> str:
    try:
        return settings.published_url(name)
    except SettingsError:  # this stack has no such service
        return ""


def _health(settings: Settings, trino: Trino, links: dict[str, str]) -> Health:
    prometheus = f"http://{settings.address('prometheus')}" if "prometheus" in links else None
    asked = _addresses(settings)
    return Health(settings.home, trino, links, prometheus, asked, settings.connect_url)


def _addresses(settings: Settings) -> dict[str, tuple[str, int]] | None:
    """Each container that listens; None where the supervisor can be asked."""
    if not settings.in_containers:
        return None
    found: dict[str, tuple[str, int]] = {}
    for name, port in sorted(settings.declared_ports().items(), key=lambda port: port[1]):
        found.setdefault(settings.host(name), (settings.host(name), port))
    return found


def main() -> int:
    """Serve until stopped."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        settings = load()
        port = int(os.environ["HEADWATER_PAGE_PORT"])
        links = {name: url for name in OPENED if (url := _link(settings, name))}
        trino = Trino(settings.trino_url)
        parts = Parts(
            Source(settings.source_dsn, settings.profile.publication_name),
            trino,
            _health(settings, trino, links),
            [sys.executable, "-m", "app"],
            [sys.executable, "-m", "app.lake.side_by_side"],
        )
        ports = {port, settings.published("app")}
        page = make_page(parts, ports=ports, token=os.environ["HEADWATER_PAGE_TOKEN"])
    except HeadwaterError as error:
        logging.getLogger("page").error("%s", error)
        return 1
    uvicorn.run(
        page,
        host=settings.bind,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=STOP_S,
        ws="none",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
