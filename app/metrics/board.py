"""The current values of all metrics: collectors write them, a scrape reads them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from app.metrics.metric_list import BY_NAME, METRICS

SERIES_MAX = 500  # of one family; a source with more tables shows those with the largest values
LABEL_CHARS_MAX = 120
_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 30, 60, 120, 300)

Labels = tuple[str, ...]
LabelValues = TypeVar("LabelValues", bound=tuple[str, ...])


class Board(Collector):
    """Holds each family's values. A family is replaced whole, so that a dropped table's series disappear."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        probe = BY_NAME["headwater_probe_seconds"]
        self.probe_seconds = Histogram(
            probe.name, probe.help, probe.labels, buckets=_BUCKETS, registry=self.registry
        )
        self._values: dict[str, dict[Labels, float]] = {}
        self._lock = threading.Lock()
        self.registry.register(self)

    def set(self, name: str, value: float | None) -> None:
        """Set the value of a family without labels; None removes it."""
        self.replace(name, {} if value is None else {(): value})

    def replace(self, name: str, values: Mapping[LabelValues, float]) -> None:
        """Replace all series of a family. `values`: label values in order → value."""
        metric = BY_NAME[name]
        kept = {tuple(part[:LABEL_CHARS_MAX] for part in labels): v for labels, v in values.items()}
        if any(len(labels) != len(metric.labels) for labels in kept):
            raise ValueError(f"{name} takes the labels {metric.labels}")
        dropped = len(kept) - SERIES_MAX
        if dropped > 0:
            largest = sorted(kept, key=lambda labels: -kept[labels])[:SERIES_MAX]
            kept = {labels: kept[labels] for labels in largest}
        with self._lock:
            self._values[name] = kept
            if dropped > 0:
                count = self._values.setdefault("headwater_exporter_series_dropped", {(): 0})
                count[()] += dropped

    def put(self, name: str, labels: Labels, value: float) -> None:
        """Set one series of a family, leaving the others."""
        with self._lock:
            self._values.setdefault(name, {})[labels] = value

    def get(self, name: str) -> dict[Labels, float]:
        """Return a copy of a family's series."""
        with self._lock:
            return dict(self._values.get(name, {}))

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing, so that the registry does not collect while it registers."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the families that have values, in the order of `metric_list`."""
        for metric in METRICS:
            values = self.get(metric.name)
            if not values or metric.kind == "histogram":
                continue
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=list(metric.labels))
            for labels, value in values.items():
                family.add_metric(list(labels), value)
            yield family
