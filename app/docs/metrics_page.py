"""The reference of metrics and of alerts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from app.docs.markdown import code, page, table
from app.hops import PROBED, WITH_LSN
from app.metrics.metric_list import ALERTS, METRICS
from spark_streaming.ops.job_metrics import Metrics
from spark_streaming.streams.stream_metrics import StreamMetrics

_INTRODUCTION = f"""
Prometheus asks every part of the stack. This page has the metrics that Headwater itself defines, and the
alerts. `./headwater urls` names the addresses; [app/metrics](../../app/metrics/README.md) says how each
figure is found, and which metrics of Spark, Kafka, Debezium and Trino are kept beside.

`hop` is one of {", ".join(map(code, PROBED))}; where it is behind in WAL, one of
{", ".join(map(code, WITH_LSN))}. `kafka` is the part that capture has sent to Kafka.
"""
_HEADS = ("metric", "kind", "labels", "meaning")


def metrics_page() -> str:
    """The exporter's metrics, those of silver and of streams, and every alert."""
    return page(
        "Metrics and alerts",
        _INTRODUCTION,
        "## Exporter",
        "The service `metrics`.",
        table(
            _HEADS,
            (_row(m.name, m.kind, m.labels, m.help) for m in METRICS),
        ),
        "## Silver",
        "The streaming job itself, service `silver`.",
        table(_HEADS, _registered(Metrics().registry)),
        "## Streams",
        "The service `streams`, which is optional.",
        table(_HEADS, _registered(StreamMetrics().registry)),
        "## Alerts",
        "Each has a section in the [runbook](../../grafana/runbook.md): what to check, what to do.",
        table(("alert", "severity", "fires when", "normally"), _alerts()),
    )


def _alerts() -> Iterator[tuple[str, str, str, str]]:
    for alert in ALERTS:
        where = f"[{alert.name}](../../grafana/runbook.md#{alert.section})"
        lasting = "" if alert.wait == "0s" else f", for {alert.wait}"
        yield where, alert.severity, f"{alert.symptom_in_markdown}{lasting}", alert.normal


def _registered(registry: CollectorRegistry) -> Iterator[tuple[str, str, str, str]]:
    # What is collected shows no labels before the first sample; the collectors know them.
    for collector in registry._collector_to_names:
        family: Any = collector
        yield _row(family._name, family._type, family._labelnames, family._documentation)


def _row(name: str, kind: str, labels: Sequence[str], text: str) -> tuple[str, str, str, str]:
    shown = f"{name}_total" if kind == "counter" else name
    return code(shown), kind, ", ".join(labels), text
