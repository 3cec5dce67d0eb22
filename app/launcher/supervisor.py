"""The supervisor process: `python -m app.launcher.supervisor HOME ROOT`, one per home.

SIGHUP: read `wanted.json` and the service descriptions again. SIGTERM, SIGINT: stop everything in
reverse dependency order and end. SIGQUIT: end everything at once, since its data goes too. It writes `state.json` and `supervisor.log`.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from app.artefacts.lazy import LazyArtefacts
from app.environment.settings import Settings, load
from app.environment.toml_files import SettingsError
from app.errors import HeadwaterError
from app.launcher import aot
from app.launcher.host import RealHost
from app.launcher.leftovers import kill_leftovers
from app.launcher.state import Home, Observed, Snapshot
from app.launcher.supervision.state_machine import Supervisor
from app.launcher.supervision.unit import Unit
from app.processes import log_files as logs
from app.processes.process import boot_id
from app.services.described import services_of
from app.services.service import declared_ports, is_enabled

TICK_BUSY_S = 0.1
TICK_QUIET_S = 0.5
TIDY_EVERY_S = 10.0
QUIET = {"ready", "unresponsive", "completed", "failed", "stopped"}

log = logging.getLogger("supervisor")


class Asked:
    """Records the requests of signals; a pipe wakes the loop."""

    def __init__(self) -> None:
        self.reload = True
        self.stop = False
        self.at_once = False
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, self._on_reload)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGQUIT, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self.reload = True

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop = True
        self.at_once = number == signal.SIGQUIT

    def wait(self, seconds: float) -> None:
        """Wait until a signal comes or `seconds` have passed."""
        if select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 1024)


class Watch:
    """Runs the loop around the state machine: signals in, state file and log lines out."""

    def __init__(self, settings: Settings, root: Path, asked: Asked) -> None:
        services = services_of(root, settings.profile)
        settings.ports.declare(declared_ports(services))
        self.home = Home(settings.home)
        self._root = root
        self._asked = asked
        self._settings = settings
        self._host = RealHost(settings, LazyArtefacts(root), root=root)
        self._host.ports = declared_ports(services)
        self._supervisor = Supervisor(services, host=self._host, clock=time.monotonic)
        self._epoch_s = time.time() - time.monotonic()
        self._generation = 0
        self._states: dict[str, str] = {}
        self._saved: Snapshot | None = None

    def run(self) -> None:
        """Supervise until everything is stopped and nothing is wanted."""
        tidy_at = 0.0
        while True:
            if self._asked.stop:
                self._supervisor.at_once = self._asked.at_once and not self._host.aot.writing
                self._supervisor.want([])
            elif self._asked.reload:
                self._asked.reload = False
                self._reload()
            self._supervisor.tick()
            self._log_changes()
            self._save()
            self.home.beat()
            if self._supervisor.idle:
                break
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + TIDY_EVERY_S
                self._tidy()
            quiet = all(unit.state in QUIET for unit in self._units)
            self._asked.wait(TICK_QUIET_S if quiet else TICK_BUSY_S)
        self._host.close()

    @property
    def _units(self) -> list[Unit]:
        return list(self._supervisor.units.values())

    def _reload(self) -> None:
        wanted = self.home.wanted()
        try:
            services = services_of(self._root, self._settings.profile)
        except HeadwaterError as error:
            log.error("cannot read the service descriptions again: %s", error)
            services = dict(self._supervisor.services)
        self._settings.ports.declare(declared_ports(services))
        self._host.ports = declared_ports(services)
        known = [name for name in wanted.services if name in services]
        log.info("wanted: %s", ", ".join(known) or "nothing")
        enabled = [one for one in services.values() if is_enabled(one, self._settings.profile)]
        self._host.aot.recording = aot.whole(enabled, known)
        self._supervisor.want(known, services)
        self._generation = wanted.generation

    def _log_changes(self) -> None:
        for unit in self._units:
            name = unit.service.name
            if self._states.get(name) == unit.state:
                continue
            self._states[name] = unit.state
            if unit.state in ("backoff", "failed", "unresponsive") and unit.error is not None:
                log.warning("%s: %s\n%s", name, unit.state, unit.error)
            else:
                pid = f" (pid {unit.process.pid})" if unit.process else ""
                log.info("%s: %s%s", name, unit.state, pid)

    def _save(self) -> None:
        observed = {unit.service.name: observe(unit, self._epoch_s) for unit in self._units}
        snapshot = Snapshot(boot_id(), self._generation, observed)
        if snapshot != self._saved:
            try:
                self.home.save_snapshot(snapshot)
                self._saved = snapshot
            except OSError as error:
                # A full disk makes services fail already; it must not end their supervisor, too.
                log.error("cannot write the state: %s", error)

    def _tidy(self) -> None:
        try:
            logs.rotate_own(self.home.log_file)
            self._host.tidy_logs([unit.service for unit in self._units])
        except OSError as error:
            log.error("cannot compress older logs: %s", error)


def observe(unit: Unit, epoch_offset_s: float) -> Observed:
    """Return a unit as the state file holds it; the clock plus `epoch_offset_s` is epoch time."""
    error = None
    if unit.error is not None:
        error = {key: getattr(unit.error, key) for key in ("message", "detail", "log", "hint")}
    waits_for = unit.waits_for
    retry_at = unit.retry_at if unit.state in ("backoff", "failed") else math.inf
    if unit.state == "starting" and unit.service.ready is not None:
        waits_for = unit.observed
    return Observed(
        state=unit.state,
        since=round(unit.since + epoch_offset_s, 1),
        pid=unit.process.pid if unit.process else None,
        start_time=unit.process.start_time if unit.process else 0,
        restarts=unit.restarts,
        waits_for=waits_for,
        error=error,
        retry_at=round(retry_at + epoch_offset_s, 1) if math.isfinite(retry_at) else 0.0,
    )


def main(arguments: list[str]) -> int:
    """Supervise a home, with the services that the clone at a root describes."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.Formatter.converter = time.gmtime
    asked = Asked()
    try:
        settings = load(Path(arguments[0]))
        home = Home(settings.home)
        with home.supervising():
            kill_leftovers(home)
            Watch(settings, Path(arguments[1]), asked).run()
    except (HeadwaterError, SettingsError) as error:
        log.error("%s", error)
        return 1
    log.info("everything is stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
