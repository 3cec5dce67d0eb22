"""`python -m app.page`: the service `app`, which serves the page."""

from __future__ import annotations

import logging
import os
import sys

from app.bounded_http import Limits, server_of
from app.environment.settings import Settings, load
from app.environment.toml_files import SettingsError
from app.errors import HeadwaterError
from app.health.connector_health import ConnectWorkers
from app.page.page import Parts, make_page
from app.page.source_rows import Source
from app.page.stack_health import Health
from app.page.trino_sql import Trino

# Browsers that listen for events never disconnect by themselves: a stop does not wait for them.
LIMITS = Limits(connections_max=100, stop_s=2)
# Services with a page of their own, whose port has their name.
OPENED = ("superset", "grafana", "trino", "prometheus", "alertmanager")


def _url(settings: Settings, name: str) -> str:
    try:
        return settings.ports.published_url(name)
    except SettingsError:  # this stack has no such service
        return ""


def _health(settings: Settings, trino: Trino, links: dict[str, str]) -> Health:
    prometheus = f"http://{settings.ports.address('prometheus')}" if "prometheus" in links else None
    asked = _addresses(settings)
    return Health(settings.home, trino, links, prometheus, asked, ConnectWorkers.of(settings))


def _addresses(settings: Settings) -> dict[str, tuple[str, int]] | None:
    """Return the address of each container by name; None for a native stack, whose supervisor knows."""
    if not settings.profile.in_containers:
        return None
    found: dict[str, tuple[str, int]] = {}
    for name, port in sorted(settings.ports.numbers().items(), key=lambda port: port[1]):
        found.setdefault(settings.ports.host(name), (settings.ports.host(name), port))
    return found


def main() -> int:
    """Serve until stopped."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        settings = load()
        port = int(os.environ["HEADWATER_PAGE_PORT"])
        links = {name: url for name in OPENED if (url := _url(settings, name))}
        trino = Trino(settings.trino_url)
        parts = Parts(
            Source(settings.store_dsn, settings.profile.publication_name),
            trino,
            _health(settings, trino, links),
            [sys.executable, "-m", "app"],
            [sys.executable, "-m", "app.trace.side_by_side"],
        )
        ports = {port, settings.ports.published("app")}
        page = make_page(parts, ports=ports, token=os.environ["HEADWATER_PAGE_TOKEN"])
    except HeadwaterError as error:
        logging.getLogger("page").error("%s", error)
        return 1
    server_of(page, settings.ports.bind, port, LIMITS).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
