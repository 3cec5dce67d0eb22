"""`python -m app.metrics.exporter`: the service `metrics`.

One thread runs the collectors in turn. Each has a period and a share of a core: one that has used
more than its share looks later, so the whole stays within the sum of the shares.
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
from typing import Protocol

from prometheus_client import disable_created_metrics, start_http_server

from app.errors import HeadwaterError
from app.metrics.board import Board

log = logging.getLogger("metrics")
# A collector that fails looks again after this at least: what is down is not made busier.
FAILED_AGAIN_S = 10.0
# However dear a look was, it is repeated within this.
PERIOD_S_MAX = 900.0
# What each collector may spend beyond its share: the first look opens connections and reads whole
# tables, and must not be paid for with minutes of silence.
GRACE_CPU_S = 2.0


# Its own start takes seconds of CPU, which those that are waited for need more.
OTHERS_START_S_MAX = 120.0
_STARTING = ("preparing", "starting")


class Collector(Protocol):
    """Looks at one part of the stack and writes what it saw on the board."""

    @property
    def name(self) -> str:
        """Its name in metrics and logs."""

    @property
    def period_s(self) -> float:
        """Seconds from one look to the next."""

    @property
    def share(self) -> float:
        """How much of a core it may take on average."""

    def collect(self) -> None:
        """Look once. Any exception counts as a failed look."""

    def reset(self) -> None:
        """Drop connections after a failed look; what cannot be known now leaves the board."""


@dataclass
class _Plan:
    collector: Collector
    due: float = 0.0
    cpu_s: float = 0.0
    told: str = ""


class Exporter:
    """Runs collectors by their periods. The clocks are arguments: `now` for time, `cpu` for cost."""

    def __init__(
        self,
        board: Board,
        collectors: Sequence[Collector],
        *,
        now: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._board = board
        self._plans = [_Plan(collector) for collector in collectors]
        self._now = now
        self._cpu = cpu
        self._began = now()

    def step(self) -> float:
        """Run what is due. Returns: seconds until the next is."""
        for plan in self._plans:
            if plan.due <= self._now():
                self._look(plan)
        return max(0.0, min(plan.due for plan in self._plans) - self._now())

    def _look(self, plan: _Plan) -> None:
        collector = plan.collector
        began = self._cpu()
        try:
            collector.collect()
            failure = ""
        except Exception as error:  # noqa: BLE001 - told below; the other collectors go on
            failure = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            collector.reset()
        plan.cpu_s += self._cpu() - began
        now = self._now()
        # The moment at which all that it has used is within its share.
        affordable = self._began + (plan.cpu_s - GRACE_CPU_S) / collector.share - now
        period = max(collector.period_s, affordable, FAILED_AGAIN_S if failure else 0.0)
        period = min(PERIOD_S_MAX, period)
        plan.due = now + period
        labels = (collector.name,)
        self._board.put("headwater_collector_up", labels, 0 if failure else 1)
        self._board.put("headwater_collector_cpu_seconds", labels, plan.cpu_s)
        self._board.put("headwater_collector_period_seconds", labels, period)
        if failure != plan.told:
            log.warning("%s: %s", collector.name, failure or "works again")
            plan.told = failure


def others_start(home: Path, own: str) -> bool:
    """Whether another service than `own` is being started, as the supervisor sees it."""
    try:
        services = json.loads((home / "state.json").read_text())["services"]
    except (OSError, ValueError, KeyError):
        return False
    return any(seen.get("state") in _STARTING for name, seen in services.items() if name != own)


def await_others(home: Path, own: str, stop: threading.Event) -> None:
    """Return when no other service is being started, twice in a row, or after two minutes, or at `stop`."""
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
    # Only now: these bring the clients of every part along.
    from app.metrics.collectors import all_collectors
    from app.settings import load

    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter and bucket, which nothing asks for
    board = Board()
    try:
        settings = load()
        exporter = Exporter(board, all_collectors(settings, board))
        start_http_server(
            int(os.environ["HEADWATER_EXPORTER_PORT"]), addr=settings.bind, registry=board.registry
        )
    except (HeadwaterError, OSError) as error:
        log.error("%s", error)
        return 1
    while not stop.is_set():
        # Probes are looked for every half second while one is under way.
        stop.wait(min(5.0, exporter.step()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
