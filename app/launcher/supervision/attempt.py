"""One attempt of a service on the host: its prepare commands, its start, its probes, its end.

In the order of a service's life: `start`, `check_preparing`, `check_starting`, `check_running`; then `stop` and
`check_stopping`. Each checks the process once and changes the unit's state if something happened.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable

from app.errors import HeadwaterError
from app.launcher.supervision.restart_policy import count_failure
from app.launcher.supervision.unit import RUNNING, Host, Unit
from app.services.service import Service

PROBE_EVERY_S = 0.2
# A running service is probed again; sooner after a miss, so that two misses are noticed within ten seconds even if
# each takes the probe's whole limit (3 s).
ALIVE_EVERY_S = 2.0
MISSED_EVERY_S = 1.0
MISSES_MAX = 2
# A service that does not answer for this long is killed and started again.
UNRESPONSIVE_S = 60.0


class Attempts:
    """The attempts of all services: changes units' states by the host's observations.

    Args:
        dependency_down: whether a dependency of the unit is unavailable now.
    """

    def __init__(
        self, host: Host, clock: Callable[[], float], *, dependency_down: Callable[[Unit], bool]
    ) -> None:
        self._host = host
        self._clock = clock
        self._dependency_down = dependency_down

    # -- the start

    def start(self, unit: Unit, service: Service) -> None:
        """Start the first prepare command, or the service itself if there is none."""
        unit.service = service
        unit.attempts += 1
        unit.step = -1
        self._next_step(unit)

    def _next_step(self, unit: Unit) -> None:
        service = unit.service
        unit.step += 1
        preparing = unit.step < len(service.prepare)
        try:
            unit.process = self._host.launch(service, unit.step if preparing else None)
        except HeadwaterError as error:
            # Wrong templates and missing programs do not go away while a person waits.
            unit.process = None
            self._fail(unit, error, final=not unit.ever_ready)
            return
        now = self._clock()
        if preparing:
            unit.set_limit(service.prepare[unit.step].timeout_s, now)
            unit.move_to("preparing", now)
            if unit.process is None:
                self._next_step(unit)
            return
        unit.set_limit(service.ready.timeout_s if service.ready else service.timeout_s, now)
        unit.probe_at, unit.probes, unit.observed = now, 0, "not probed yet"
        unit.move_to("starting", now)

    def check_preparing(self, unit: Unit) -> None:
        """Go on to the next step, or fail if the command failed or took too long."""
        assert unit.process is not None
        code = unit.process.exit_code()
        name = unit.service.name
        if code == 0:
            unit.process = None
            self._next_step(unit)
        elif code is not None:
            unit.process = None
            self._fail(unit, self._error(unit, f"service `{name}` could not be prepared", code))
        elif self._limit_passed(unit):
            self._kill_late(unit, f"preparing service `{name}` took more than {unit.limit_s:g} s")

    def check_starting(self, unit: Unit) -> None:
        """Notice that the service is ready, has ended, or takes too long."""
        assert unit.process is not None
        service = unit.service
        code = unit.process.exit_code()
        if code is not None:
            self._record_end(unit, code)
        elif service.kind == "oneshot":
            if self._limit_passed(unit):
                self._kill_late(unit, f"`{service.name}` took more than {unit.limit_s:g} s")
        elif service.ready is None:
            self._set_ready(unit)
        elif self._limit_passed(unit):
            name, limit_s = service.name, unit.limit_s
            self._kill_late(unit, f"service `{name}` was not ready within {limit_s:g} s")
        elif self._clock() >= unit.probe_at:
            result = self._host.probe(service, unit.process, running=False)
            if result is None:
                return
            unit.probe_at = self._clock() + PROBE_EVERY_S
            unit.probes += 1
            unit.observed = result.observed
            if result.ready:
                self._set_ready(unit)

    def _set_ready(self, unit: Unit) -> None:
        unit.ever_ready = True
        unit.misses = unit.times_failed = 0
        if unit.state not in RUNNING:
            unit.ready_since = self._clock()
        unit.probe_at = self._clock() + ALIVE_EVERY_S
        unit.move_to("ready", self._clock())

    # -- while it runs

    def check_running(self, unit: Unit) -> None:
        """Notice whether the service has ended, and whether it still answers."""
        assert unit.process is not None
        code = unit.process.exit_code()
        if code is not None:
            self._record_end(unit, code)
        elif unit.state == "unresponsive" and self._limit_passed(unit):
            name, limit_s = unit.service.name, unit.limit_s
            self._kill_late(unit, f"service `{name}` answered nothing for {limit_s:g} s")
        elif self._clock() >= unit.probe_at:
            result = self._host.probe(unit.service, unit.process, running=True)
            if result is None:
                return
            unit.observed, unit.probes = result.observed, unit.probes + 1
            if result.ready:
                self._set_ready(unit)
            else:
                self._count_miss(unit)

    def _count_miss(self, unit: Unit) -> None:
        unit.misses += 1
        unit.probe_at = self._clock() + MISSED_EVERY_S
        if unit.misses < MISSES_MAX or unit.state == "unresponsive":
            return
        unit.move_to("unresponsive", self._clock())
        never = unit.service.restart.policy == "never"
        unit.set_limit(math.inf if never else UNRESPONSIVE_S, self._clock())
        next_step = "" if never else f"it is started again after {UNRESPONSIVE_S:g} s; "
        name = unit.service.name
        unit.error = HeadwaterError(
            f"service `{name}` runs and does not answer",
            detail=unit.observed,
            log=self._host.log_path(unit.service),
            hint=f"{next_step}read the log: `./headwater logs {name}`",
        )

    # -- the end

    def stop(self, unit: Unit, *, at_once: bool) -> None:
        """Ask the process to end; `check_stopping` kills it when its time is over."""
        assert unit.process is not None
        number = unit.service.stop.number(at_once=at_once)
        if number == signal.SIGKILL:
            unit.process.kill()  # its children too
        else:
            unit.process.signal(number)
        grace_s = self._host.grace_s(unit.service)
        unit.deadline = self._clock() + unit.service.stop.timeout_s + grace_s
        unit.move_to("stopping", self._clock())
        if grace_s:
            unit.waits_for = "writing the JVM start-up cache (first stop only)"

    def check_stopping(self, unit: Unit) -> None:
        """Notice that a process that was asked to end has ended; kill it when its time is over."""
        code = unit.process.exit_code() if unit.process else None
        if unit.process is None or code is not None:
            self._host.ended(unit.service, code, asked=True, ready=unit.ever_ready)
            unit.process = None
            unit.ever_ready = False
            unit.attempts = 0
            unit.move_to("stopped", self._clock())
        elif self._clock() >= unit.deadline:
            unit.process.kill()

    def _record_end(self, unit: Unit, code: int) -> None:
        """Take note of a process that ended without being asked to."""
        unit.process = None
        self._host.ended(unit.service, code, asked=False, ready=unit.state in RUNNING)
        name = unit.service.name
        if unit.service.kind == "oneshot":
            if code == 0:
                unit.ever_ready = True
                unit.error = None
                unit.move_to("completed", self._clock())
                return
            self._fail(unit, self._error(unit, f"`{name}` failed", code))
            return
        when = "ended" if unit.state in RUNNING else "ended before it was ready"
        self._fail(unit, self._error(unit, f"service `{name}` {when}", code))

    def _limit_passed(self, unit: Unit) -> bool:
        return unit.limit_passed(self._clock(), self._host.overloaded)

    def _kill_late(self, unit: Unit, message: str) -> None:
        """Kill a process whose limit has passed, and count that as a failure."""
        assert unit.process is not None
        error = self._error(unit, message, None)
        unit.process.kill()
        self._host.ended(unit.service, None, asked=False, ready=unit.state in RUNNING)
        unit.process = None
        self._fail(unit, error)

    def _fail(self, unit: Unit, error: HeadwaterError, *, final: bool = False) -> None:
        unit.error = error
        down = self._dependency_down(unit)
        count_failure(unit, self._clock(), dependency_down=down, final=final)

    def _error(self, unit: Unit, message: str, code: int | None) -> HeadwaterError:
        output = self._host.last_lines(unit.service)
        if code is None:
            probed = unit.state in ("starting", "unresponsive")
            probes = f"{unit.observed}, {unit.probes} probes; " if probed else ""
            observed = f"{probes}process is running"
        else:
            observed = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        return HeadwaterError(
            message,
            detail=f"{observed}\n{output}" if output else observed,
            log=self._host.log_path(unit.service),
            hint=self._host.hint(unit.service, output),
        )
