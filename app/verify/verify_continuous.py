"""Verifies round after round, slowly, in the background: `verify --continuous`.

A round compares one table after the other, in parts of CONTINUOUS_PART_ROWS rows, each at an
instant of its own. After each part the process rests, with no transaction open, so that it uses
no more than its share of one CPU. Verdicts go to `ops/verification` and to metrics.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.lake.object_store import refuse_overwriting
from app.lake.patience import Waits
from app.verify.table_verification import PART_ROWS, Options, Verifier, named_failures
from app.verify.verdict import Verdict
from app.verify.verification_table import VerificationTable
from app.verify.verify_uncompared import captured_tables, nothing_to_compare, uncompared
from spark_streaming.ops.metrics_server import serve_metrics

EVERY_S = 900.0
CPU_SHARE_PCT = 5.0
CONTINUOUS_PART_ROWS = 50_000
RETRY_PAUSE_S = 30.0

Entry = tuple[Verdict, datetime, float]  # a verdict, its time, its CPU seconds


@dataclass(frozen=True)
class Pace:
    """How fast the rounds are.

    Args:
        every_s: seconds from the start of a round to the start of the next, unless it takes longer.
        cpu_share_pct: the greatest share of one CPU, over each part and the rest after it.
        rounds: the number of rounds; None runs until it is stopped.
    """

    every_s: float = EVERY_S
    cpu_share_pct: float = CPU_SHARE_PCT
    rounds: int | None = None

    @classmethod
    def of(cls, every_s: float | None, cpu_share_pct: float | None, rounds: int | None) -> Pace:
        """Return a pace with defaults for the arguments that are None."""
        return cls(
            EVERY_S if every_s is None else every_s,
            CPU_SHARE_PCT if cpu_share_pct is None else cpu_share_pct,
            rounds,
        )


class Throttle:
    """Rests as long as needed to keep CPU time below a share of elapsed time.

    Args:
        share_pct: the share of one CPU.
        pause: waits for a number of seconds (`threading.Event.wait`).
        clock: monotonic seconds.
        cpu: seconds of CPU that this process has used.
    """

    def __init__(
        self,
        share_pct: float,
        pause: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._share = share_pct / 100
        self._pause = pause
        self._clock = clock
        self._cpu = cpu
        self._since = (clock(), cpu())

    def rest(self) -> None:
        """Rest for the CPU time used since the last rest."""
        passed, used = self._clock() - self._since[0], self._cpu() - self._since[1]
        owed = used / self._share - passed
        if owed > 0:
            self._pause(owed)
        self._since = (self._clock(), self._cpu())


class VerifyMetrics:
    """The Prometheus metrics of the rounds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"headwater_verify_{name}", text, ["table"], registry=self.registry)

        self._equal = gauge("equal", "1: silver equals the source; 0: it differs or is refused")
        self._rows = gauge("rows", "Rows of the source that were compared")
        self._wrong = gauge("wrong_rows", "Rows missing, extra or differing")
        self._explained = gauge("explained_rows", "Rows that differ and are in quarantine")
        self._at = gauge("last_timestamp_seconds", "When the table was last verified")
        self._seconds = gauge("seconds", "How long the table's verification took")
        self._rounds = Counter(
            "headwater_verify_rounds", "Rounds by how they ended", ["end"], registry=self.registry
        )
        self._cpu = Counter(
            "headwater_verify_cpu_seconds", "CPU that verifying took", registry=self.registry
        )

    def serve(self, address: str, port: int) -> None:
        """Serve GET /metrics on `address`:`port` in a thread of its own."""
        serve_metrics(self.registry, address, port)

    def record(self, verdict: Verdict, at: datetime, cpu_seconds: float) -> None:
        """Record one table's verdict."""
        comparison = verdict.comparison
        wrong = comparison.missing + comparison.extra + comparison.differing
        self._equal.labels(verdict.table).set(1 if verdict.equal else 0)
        self._rows.labels(verdict.table).set(comparison.rows)
        self._wrong.labels(verdict.table).set(wrong)
        self._explained.labels(verdict.table).set(comparison.explained)
        self._at.labels(verdict.table).set(at.timestamp())
        self._seconds.labels(verdict.table).set(verdict.seconds)
        self._cpu.inc(cpu_seconds)

    def round_ended(self, end: str) -> None:
        """Count a round: `equal`, `explained`, `differs` or `failed`."""
        self._rounds.labels(end).inc()


def run_continuous(
    tables: list[str], options: Options, pace: Pace, metrics_port: int | None = None
) -> int:
    """Verify round after round until SIGTERM, Ctrl-C or the end of `pace.rounds`.

    Returns: 1 if the last verdict of some table is not a success, else 0.
    Raises: HeadwaterError if a round of a limited number fails.
    """
    settings = load()
    refuse_overwriting(settings.store)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.part_rows == PART_ROWS:
        options = replace(options, part_rows=CONTINUOUS_PART_ROWS)
    # An instant is closed after each part: nothing is open during a rest.
    rounds = Rounds(settings, tables, replace(options, instant_s=0.0), pace, stop)
    if metrics_port is not None:
        rounds.metrics.serve(settings.ports.bind, metrics_port)
    return rounds.run()


class Rounds:
    """The rounds of one process."""

    def __init__(
        self,
        settings: Settings,
        tables: list[str],
        options: Options,
        pace: Pace,
        stop: threading.Event,
    ) -> None:
        self.metrics = VerifyMetrics()
        self._settings = settings
        self._tables = tables
        self._pace = pace
        self._stop = stop
        self._results = VerificationTable(Lakehouse(settings).lake)
        throttle = Throttle(pace.cpu_share_pct, stop.wait)
        self._verifier = Verifier(settings, Waits(), options, rest=self._rest(throttle))
        self._passes = options.passes
        self._passed: dict[str, bool] = {}

    def run(self) -> int:
        """Run the rounds; see `run_continuous`."""
        number = None
        done = 0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                with named_failures():
                    number = (self._results.last_round() if number is None else number) + 1
                    self._round(number)
            except StoppedError:
                break
            except HeadwaterError as error:
                self.metrics.round_ended("failed")
                if self._pace.rounds is not None:
                    raise
                _say(f"round failed: {error}")
                self._stop.wait(RETRY_PAUSE_S)
                continue
            done += 1
            if done == self._pace.rounds:
                break
            self._stop.wait(max(0.0, self._pace.every_s - (time.monotonic() - started)))
        return 0 if all(self._passed.values()) else 1

    def _round(self, number: int) -> None:
        # Without given names, a round includes tables captured since the last one.
        captured = captured_tables(self._settings)
        if not captured and not self._tables:
            raise nothing_to_compare(self._settings)
        entries: list[Entry] = []
        for table in self._tables or sorted(captured):
            used = time.process_time()
            [verdict] = self._verifier.verify([table])
            entries.append(self._record(verdict, time.process_time() - used))
        others = [] if self._tables else uncompared(self._settings, captured)
        entries += [self._record(one, 0.0) for one in others if not self._passes(one)]
        self._results.append(number, entries)
        wrong = [verdict.table for verdict, _, _ in entries if not verdict.equal_or_explained]
        end = "equal" if all(verdict.equal for verdict, _, _ in entries) else "explained"
        self.metrics.round_ended("differs" if wrong else end)
        _say(
            f"round {number}: {len(entries)} tables, "
            + (", ".join(wrong) or "all")
            + (" differ" if wrong else f" {end}")
        )

    def _record(self, verdict: Verdict, cpu_seconds: float) -> Entry:
        """Report a verdict to metrics and stderr; return its row of the round."""
        entry = (verdict, datetime.now(timezone.utc), cpu_seconds)
        self._passed[verdict.table] = self._passes(verdict)
        self.metrics.record(*entry)
        for line in verdict.messages():
            _say(line)
        return entry

    def _rest(self, throttle: Throttle) -> Callable[[], None]:
        def rest() -> None:
            throttle.rest()
            if self._stop.is_set():
                raise StoppedError

        return rest


class StoppedError(Exception):
    """Raised when the process is asked to end in the middle of a round."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
