"""`python -m app.live`: the service `app`, which serves the page on loopback."""

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

HOST = "127.0.0.1"
CONNECTIONS_MAX = 100
# Browsers that listen for events never end by themselves.
STOP_S = 2
# Services with a page of their own, whose port has their name.
OPENED = ("superset", "grafana", "trino", "prometheus", "alertmanager")


def _address(settings: Settings, name: str) -> str:
    try:
        return f"http://127.0.0.1:{settings.port(name)}"
    except SettingsError:  # this stack has no such service
        return ""


def main() -> int:
    """Serve until stopped."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        settings = load()
        port = int(os.environ["HEADWATER_PAGE_PORT"])
        links = {name: url for name in OPENED if (url := _address(settings, name))}
        trino = Trino(settings.trino_url)
        parts = Parts(
            Source(settings.source_dsn, settings.profile.publication_name),
            trino,
            Health(settings.home, trino, links, links.get("prometheus")),
            [sys.executable, "-m", "app"],
            [sys.executable, "-m", "app.lake.side_by_side"],
        )
        page = make_page(parts, port=port, token=os.environ["HEADWATER_PAGE_TOKEN"])
    except HeadwaterError as error:
        logging.getLogger("page").error("%s", error)
        return 1
    uvicorn.run(
        page,
        host=HOST,
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
