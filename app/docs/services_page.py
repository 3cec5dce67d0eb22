"""The reference of services, from every folder's `service.toml`."""

from __future__ import annotations

from pathlib import Path

from app.docs.markdown import code, page, table
from app.environment.profile import Profile
from app.services.service import Service, load_services

ROOT = Path(__file__).resolve().parents[2]
_INTRODUCTION = """
A stack is these processes. `./headwater status` shows them, `./headwater logs SERVICE` prints what one says,
`./headwater up --only SERVICE…` starts some with what they need. Every port listens on loopback, and
`--port-offset N` (or the key `ports`) moves it. The names are the same in containers.

*Runs* says when: *always* with a plain `up`; *by name* where `--only` names it; else with the setting named.
"""


def services_page() -> str:
    """Every service: its purpose, ports, dependencies, and when it runs."""
    services = load_services(ROOT)
    rows = (
        (
            f"[`{name}`](../../{service.folder.relative_to(ROOT).as_posix()}/README.md)",
            service.description,
            ", ".join(str(number) for number in service.ports.values()),
            ", ".join(code(each) for each in service.depends_on),
            _when(service),
        )
        for name, service in services.items()
    )
    heads = ("service", "what it does", "ports", "waits for", "runs")
    return page("Services and ports", _INTRODUCTION, table(heads, rows))


def _when(service: Service) -> str:
    if not service.default:
        return "by name" + (
            f", or with {code(service.default_when)}" if service.default_when else ""
        )
    if service.instances is not None and int(Profile().value(service.instances)) == 0:
        return f"with {code(service.instances)}"
    if service.requires_binary is not None:
        return f"where the machine has {code(service.requires_binary.names[0])}"
    words = {
        "embedded_source": "without `--source`",
        "embedded_kafka": "without a Kafka of your own",
        "embedded_s3": "without an object store of your own",
        "connect_here": "without a Connect cluster of your own",
        "trino_here": "without a Trino of your own",
        "dashboards": "with `--dashboards`",
        "superset_here": "with `--dashboards`, without a Superset of your own",
        "tracking": "with `--jobs` and `tracking`",
        "audit": "with `audit`",
        "spark_cluster": "with `spark_workers`",
        "hive_service": 'with `metastore = "hive"`',
    }
    return words.get(service.when or "", "always" if service.when is None else code(service.when))
