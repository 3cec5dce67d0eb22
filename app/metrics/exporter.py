"""`python -m app.metrics.exporter`: the service `metrics`.

The collectors run in turn. Each has a period and a share of a core. A collector that
has used more than its share runs later, so that all of them stay within the sum of the shares.
If a collection does not end in time, it counts as failed, and the other collectors run.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import disable_created_metrics

from app.errors import HeadwaterError
from app.metrics.board import Board
from app.metrics.collector import Collector
from spark_streaming.ops.metrics_server import serve_metrics

log = logging.getLogger("metrics")
# A collector that failed runs again after this at least, so that it adds no load to a part in trouble.
FAILED_AGAIN_S = 10.0
# And after this at most, whatever it has cost: its alert must end soon after the cause.
FAILED_AGAIN_S_MAX = 60.0
# A collection that takes longer counts as failed: a frozen server accepts connections and never answers.
HANGS_AFTER_S = 20.0
# However expensive a collection was, the next one comes within this time.
PERIOD_S_MAX = 900.0
# CPU seconds that a collector may use beyond its share: the first collection opens connections and
# reads whole tables, and must not cause minutes without values.
GRACE_CPU_S = 2.0
# Starting the exporter takes seconds of CPU, so let the services that `up` waits for start first.
OTHERS_START_S_MAX = 120.0
_STARTING = ("preparing", "starting")


@dataclass
class _Plan:
    collector: Collector
    due: float = 0.0
    cpu_s: float = 0.0
    reported: str = ""
    hanging: _Collection | None = None


class _Collection(threading.Thread):
    """One collection, in a thread of its own, so that the exporter need not wait for its end."""

    def __init__(self, collector: Collector) -> None:
        super().__init__(daemon=True)
        self._collector = collector
        self.failure = ""

    def run(self) -> None:
        try:
            self._collector.collect()
        except Exception as error:  # noqa: BLE001 - reported; the other collectors go on
            self.failure = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            self._collector.reset()


class Exporter:
    """Runs collectors by their periods and shares. `now` and `cpu` are its clocks, in seconds."""

    def __init__(
        self,
        board: Board,
        collectors: Sequence[Collector],
        *,
        now: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
        hangs_after_s: float = HANGS_AFTER_S,
    ) -> None:
        self._hangs_after_s = hangs_after_s
        self._board = board
        self._plans = [_Plan(collector) for collector in collectors]
        self._now = now
        self._cpu = cpu
        self._began = now()

    def step(self) -> float:
        """Run the collectors that are due. Returns: seconds until the next one is due."""
        for plan in self._plans:
            if plan.due <= self._now():
                self._run(plan)
        return max(0.0, min(plan.due for plan in self._plans) - self._now())

    def _run(self, plan: _Plan) -> None:
        collector = plan.collector
        began = self._cpu()
        collection = plan.hanging or _Collection(collector)
        if plan.hanging is None:
            collection.start()
            collection.join(self._hangs_after_s)
        plan.hanging = collection if collection.is_alive() else None
        failure = f"no end within {self._hangs_after_s:g} s" if plan.hanging else collection.failure
        plan.cpu_s += self._cpu() - began
        now = self._now()
        # Seconds until all CPU that it has used is within its share.
        affordable = self._began + (plan.cpu_s - GRACE_CPU_S) / collector.share - now
        period = max(collector.period_s, affordable, FAILED_AGAIN_S if failure else 0.0)
        period = min(FAILED_AGAIN_S_MAX if failure else PERIOD_S_MAX, period)
        plan.due = now + period
        labels = (collector.name,)
        self._board.put("headwater_collector_up", labels, 0 if failure else 1)
        self._board.put("headwater_collector_cpu_seconds", labels, plan.cpu_s)
        self._board.put("headwater_collector_period_seconds", labels, period)
        if failure != plan.reported:
            log.warning("%s: %s", collector.name, failure or "works again")
            plan.reported = failure


def others_start(home: Path, own: str) -> bool:
    """Return whether a service other than `own` is being started, by the supervisor's state."""
    try:
        services = json.loads((home / "state.json").read_text())["services"]
    except (OSError, ValueError, KeyError):
        return False
    return any(seen.get("state") in _STARTING for name, seen in services.items() if name != own)


def await_others(home: Path, own: str, stop: threading.Event) -> None:
    """Wait until two checks in a row see no other service being started; two minutes at most, or `stop`."""
    end = time.monotonic() + OTHERS_START_S_MAX
    calm = 0
    while calm < 2 and time.monotonic() < end and not stop.wait(0.5):
        calm = 0 if others_start(home, own) else calm + 1


def main() -> int:
    """Export until stopped."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    await_others(Path(os.environ["HEADWATER_HOME"]), os.environ.get("HEADWATER_SERVICE", ""), stop)
    # Imported late: these import the clients of every part.
    from app.environment.settings import load
    from app.lake.object_store import refuse_overwriting
    from app.metrics.all_collectors import all_collectors

    disable_created_metrics()  # type: ignore[no-untyped-call]  # would add an unused second series for each counter and bucket
    board = Board()
    try:
        settings = load()
        refuse_overwriting(settings.store)
        exporter = Exporter(board, all_collectors(settings, board))
        serve_metrics(
            board.registry, settings.ports.bind, int(os.environ["HEADWATER_EXPORTER_PORT"])
        )
    except (HeadwaterError, OSError) as error:
        log.error("%s", error)
        return 1
    while not stop.is_set():
        # `stop` is checked at least every five seconds.
        stop.wait(min(5.0, exporter.step()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
