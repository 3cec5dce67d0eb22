"""Verify round after round in the background, slowly; `verify --continuous`.

One table after the other, in parts of PART_ROWS rows, each part at an instant of its own. After
each part the process rests for so long that it takes no more than its share of one CPU, with no
transaction open. The verdicts go to `ops/verification` and to metrics.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.lake.verdict import Verdict
from app.lake.verification_table import VerificationTable
from app.lake.verify import PART_ROWS, Options, Verifier, captured_tables, told_apart
from app.settings import Settings, load

EVERY_S = 900.0
CPU_SHARE_PCT = 5.0
CONTINUOUS_PART_ROWS = 50_000
RETRY_PAUSE_S = 30.0


@dataclass(frozen=True)
class Pace:
    """How fast the rounds are.

    Args:
        every_s: from the start of a round to the start of the next; longer where one takes longer.
        cpu_share_pct: of one CPU, at most, over each part and the rest after it.
        rounds: end after so many; None goes on until it is stopped.
    """

    every_s: float = EVERY_S
    cpu_share_pct: float = CPU_SHARE_PCT
    rounds: int | None = None

    @classmethod
    def of(cls, every_s: float | None, cpu_share_pct: float | None, rounds: int | None) -> Pace:
        """A pace with defaults for what is None."""
        return cls(
            EVERY_S if every_s is None else every_s,
            CPU_SHARE_PCT if cpu_share_pct is None else cpu_share_pct,
            rounds,
        )


class Throttle:
    """Rests so long that CPU time is at most a share of the time that passes.

    Args:
        share_pct: of one CPU.
        pause: waits for so many seconds (`threading.Event.wait`).
        clock, cpu: seconds, monotonic; seconds of CPU that this process has used.
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
        """Make up for the CPU used since the last rest."""
        passed, used = self._clock() - self._since[0], self._cpu() - self._since[1]
        owed = used / self._share - passed
        if owed > 0:
            self._pause(owed)
        self._since = (self._clock(), self._cpu())


class VerifyMetrics:
    """What the rounds found, for Prometheus; `serve` makes it readable."""

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
        """Answer GET /metrics on `address`:`port`, from a thread of its own."""
        start_http_server(port, addr=address, registry=self.registry)

    def verdict(self, found: Verdict, at: datetime, cpu_seconds: float) -> None:
        """Take one table's verdict."""
        comparison = found.comparison
        wrong = comparison.missing + comparison.extra + comparison.differing
        self._equal.labels(found.table).set(1 if found.green else 0)
        self._rows.labels(found.table).set(comparison.rows)
        self._wrong.labels(found.table).set(wrong)
        self._explained.labels(found.table).set(comparison.explained)
        self._at.labels(found.table).set(at.timestamp())
        self._seconds.labels(found.table).set(found.seconds)
        self._cpu.inc(cpu_seconds)

    def round_ended(self, end: str) -> None:
        """Count a round: `equal`, `explained`, `differs` or `failed`."""
        self._rounds.labels(end).inc()


def run_continuous(
    tables: list[str], options: Options, pace: Pace, metrics_port: int | None = None
) -> int:
    """Verify round after round until SIGTERM or Ctrl-C, or `pace.rounds` are done.

    Returns: 1 where the last verdict of some table is that it differs, else 0.
    Raises: HeadwaterError where a single round was asked for and could not be ended.
    """
    settings = load()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.part_rows == PART_ROWS:
        options = replace(options, part_rows=CONTINUOUS_PART_ROWS)
    # An instant is left after each part: between parts nothing is held.
    rounds = Rounds(settings, tables, replace(options, instant_s=0.0), pace, stop)
    if metrics_port is not None:
        rounds.metrics.serve(settings.bind, metrics_port)
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
        self._verifier = Verifier(settings, lambda _: None, options, rest=self._rest(throttle))
        self._passes = options.passes
        self._green: dict[str, bool] = {}

    def run(self) -> int:
        """Run them; see `run_continuous`."""
        number = None
        done = 0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                with told_apart():
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
        return 0 if all(self._green.values()) else 1

    def _round(self, number: int) -> None:
        found: list[tuple[Verdict, datetime, float]] = []
        # Without names given, tables that came since the last round are taken too.
        for table in self._tables or sorted(captured_tables(self._settings)):
            used = time.process_time()
            [verdict] = self._verifier.verify([table])
            entry = (verdict, datetime.now(timezone.utc), time.process_time() - used)
            found.append(entry)
            self._green[table] = self._passes(verdict)
            self.metrics.verdict(*entry)
            for line in verdict.explained():
                _say(line)
        self._results.append(number, found)
        wrong = [verdict.table for verdict, _, _ in found if not verdict.accounted]
        end = "equal" if all(verdict.green for verdict, _, _ in found) else "explained"
        self.metrics.round_ended("differs" if wrong else end)
        _say(
            f"round {number}: {len(found)} tables, "
            + (", ".join(wrong) or "all")
            + (" differ" if wrong else f" {end}")
        )

    def _rest(self, throttle: Throttle) -> Callable[[], None]:
        def rest() -> None:
            throttle.rest()
            if self._stop.is_set():
                raise StoppedError

        return rest


class StoppedError(Exception):
    """The process was asked to end in the middle of a round."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
