"""The Prometheus metrics of the service `streams`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from spark_streaming.ops.metrics_server import serve_metrics
from spark_streaming.streams.stream_table import Appended


class StreamMetrics:
    """Counters of one process; `serve` makes them readable over HTTP."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._events = Counter(
            "headwater_stream_events",
            "Events of streams by their outcome",
            ["stream", "outcome"],
            registry=self.registry,
        )
        self._lag = Gauge(
            "headwater_stream_lag_events",
            "Records on the topic that silver does not have yet",
            ["stream"],
            registry=self.registry,
        )
        self._stopped = Gauge(
            "headwater_stream_stopped",
            "1: the stream is not written, after a failure; the others go on",
            ["stream"],
            registry=self.registry,
        )

        self._questions = Counter(
            "headwater_audit_questions",
            "Questions to Trino in ops.audit, by how they ended; denied: also sign-ins that were refused",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("finished", "failed", "denied"):
            self._questions.labels(outcome)  # a first refusal is a rise from 0
        self._missing = Counter(
            "headwater_audit_missing",
            "Questions to Trino of which nothing, or no end, arrived",
            registry=self.registry,
        )

    def answered(self, outcome: str, count: int = 1) -> None:
        """Count questions of the audit, finished, failed or denied, and refused sign-ins as denied."""
        self._questions.labels(outcome).inc(count)

    def missed(self, count: int) -> None:
        """Count questions that the audit knows by their numbers only, or by their start."""
        self._missing.inc(count)

    def appended(self, stream: str, done: Appended, quarantined: int) -> None:
        """Count a batch."""
        counts = {
            "merged": done.rows,
            "duplicate": done.duplicates,
            "expired": done.expired,
            "quarantined": quarantined,
        }
        for outcome, count in counts.items():
            if count:
                self._events.labels(stream, outcome).inc(count)

    def lag(self, stream: str, events: int) -> None:
        """Show how many records are waiting."""
        self._lag.labels(stream).set(events)

    def stopped(self, stream: str, is_stopped: bool) -> None:
        """Show whether a stream is stopped."""
        self._stopped.labels(stream).set(is_stopped)

    def serve(self, address: str, port: int) -> None:
        """Answer GET /metrics on `address`:`port`, from a thread of its own."""
        serve_metrics(self.registry, address, port)
