"""`python -m app.intake.sender`: the service `log-sender`, off by default.

Each second it sends new lines of the services' log files to the stream `app_logs`, and new states
of the services, as the supervisor writes them, to `app_runs`. It reads at most PIECE_BYTES of a
file at a time, and keeps a position only when the intake has accepted the lines before it: lines
are sent at least once, and silver has each once.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from app.environment.settings import load, write_private
from app.errors import HeadwaterError
from app.intake.client import BATCH_EVENTS_MAX, Intake, IntakeError, Sent
from app.intake.log_lines import Piece, line_events, next_piece

log = logging.getLogger("log-sender")
SERVICE = "log-sender"
LOGS, RUNS = "app_logs", "app_runs"
PAUSE_S = 1.0
PIECE_BYTES = 256 << 10
POST_S = 15.0
FILES_MAX = 200

Post = Callable[[str, Sequence[dict[str, Any]]], Sent]


class Sender:
    """Sends the logs and runs of one home.

    Args:
        post: sends events to a stream, and returns when they are accepted; raises IntakeError.
        state: the file that keeps the positions.
        clock: gives the time of lines without one.
    """

    def __init__(
        self, home: Path, post: Post, state: Path, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._home = home
        self._post = post
        self._state = state
        self._clock = clock or (lambda: datetime.now(timezone.utc))
        self._positions: dict[str, tuple[int, str]] = {}  # file → place, digest before it
        self._runs: dict[str, str] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(state.read_text())
            self._positions = {name: (at, mark) for name, (at, mark) in found["positions"].items()}
            self._runs = found["runs"]

    def send_new(self) -> int:
        """Send the new lines. Returns: the number of events. Raises: IntakeError."""
        seen = _services(self._home)
        sent = self._send_runs(seen)
        run_ids = {name: run_id(name, one) for name, one in seen.items()}
        for service, path in log_files(self._home):
            sent += self._send_lines(service, path, run_ids.get(service))
        return sent

    def _send_lines(self, service: str, path: Path, run: str | None) -> int:
        place = str(path.relative_to(self._home))
        position, mark = self._positions.get(place, (None, ""))
        try:
            piece = next_piece(path, position, PIECE_BYTES, mark)
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)
            return 0
        now = self._clock()
        events = list(line_events(service, path.stem, piece.lines, run, now))
        if piece.skipped:
            events.insert(0, _gap(service, path.stem, piece, now))
        self._send(LOGS, events)
        if self._positions.get(place) != (piece.position, piece.mark):
            self._positions[place] = (piece.position, piece.mark)
            self._save()
        return len(events)

    def _send_runs(self, seen: dict[str, dict[str, Any]]) -> int:
        events, keys = [], {}
        for name, one in seen.items():
            made = _run_event(name, one)
            if made is not None and self._runs.get(name) != made["key"]:
                events.append(made)
                keys[name] = made["key"]
        self._send(RUNS, events)
        if keys:
            self._runs |= keys
            self._save()
        return len(events)

    def _send(self, stream: str, events: list[dict[str, Any]]) -> None:
        for start in range(0, len(events), BATCH_EVENTS_MAX):
            done = self._post(stream, events[start : start + BATCH_EVENTS_MAX])
            for refused in done.refused[:1]:
                log.warning(
                    "%d of the events are refused: %s", len(done.refused), refused["reason"]
                )

    def _save(self) -> None:
        write_private(self._state, json.dumps({"positions": self._positions, "runs": self._runs}))


def log_files(home: Path) -> Iterator[tuple[str, Path]]:
    """List (service, log file) of a home, without the sender's own."""
    found = [("supervisor", home / "supervisor.log")]
    for path in sorted(home.glob("run/*/std*.log"))[:FILES_MAX]:
        found.append((path.parent.name, path))
    return ((name, path) for name, path in found if name != SERVICE and path.exists())


def run_id(service: str, seen: dict[str, Any]) -> str | None:
    """Name one run of a service; None while it does not run."""
    if not seen.get("pid"):
        return None
    return f"{service}/{seen['boot']}/{seen['pid']}/{seen.get('start_time', 0)}"


def _services(home: Path) -> dict[str, dict[str, Any]]:
    """Return service → its state as the supervisor last wrote it; empty if that cannot be read."""
    try:
        found = json.loads((home / "state.json").read_text())
        boot = str(found.get("boot_id", ""))[:8]
        return {name: {**seen, "boot": boot} for name, seen in found["services"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _run_event(service: str, seen: dict[str, Any]) -> dict[str, Any] | None:
    since = float(seen.get("since") or 0.0)
    if not since:
        return None
    run = run_id(service, seen) or f"{service}/{seen['boot']}"
    return {
        "key": f"{run}/{seen['state']}/{since:.3f}",
        "time": datetime.fromtimestamp(since, timezone.utc).isoformat(),
        "data": {
            "service": service,
            "run_id": run,
            "state": seen["state"],
            "pid": seen.get("pid"),
            "restarts": seen.get("restarts"),
            "error": (seen.get("error") or {}).get("message"),
            "details": {"host": platform.node(), "waits_for": seen.get("waits_for") or None},
        },
    }


def _gap(service: str, file: str, piece: Piece, now: datetime) -> dict[str, Any]:
    return {
        "key": f"{service}/{file}/{piece.position}/gap",
        "time": now.isoformat(),
        "data": {
            "service": service,
            "level": "WARN",
            "file": file,
            "message": f"{piece.skipped} bytes of this log were left out: it grew too fast",
        },
    }


def main() -> int:
    """Send until SIGTERM."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        settings = load()
        url = settings.intake_url
    except HeadwaterError as error:
        log.error("%s", error)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    token = os.environ["HEADWATER_INTAKE_TOKEN"]
    intakes = {name: Intake(url, token, name) for name in (LOGS, RUNS)}
    state = Path(os.environ["HEADWATER_LOG_SENDER_DATA"]) / "state.json"
    sender = Sender(settings.home, lambda n, e: intakes[n].post(e, POST_S, stop), state)
    log.info("sending logs and runs to %s", url)
    failing = False
    while not stop.wait(PAUSE_S):
        try:
            sender.send_new()
            failing = False
        except IntakeError as error:
            if not failing and not stop.is_set():
                log.warning("waiting: %s", error)
            failing = True
    return 0


if __name__ == "__main__":
    sys.exit(main())
