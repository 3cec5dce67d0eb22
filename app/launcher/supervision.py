"""Supervision as a state machine: which services run, wait, restart, or have failed.

The clock and the host (which starts and probes processes) are arguments, so a test can play any
sequence of events. One `tick` does, in this order:
  1. stop services that are not wanted, dependents before what they depend on;
  2. notice processes that have ended, and answers of probes;
  3. start wanted services whose dependencies are met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from app.errors import HeadwaterError
from app.launcher.unit import FIRST, RUNNING, Host, State, Unit
from app.services.service import Condition, Services

PROBE_EVERY_S = 0.2
# A running service is probed again; sooner after a miss, so that two misses are noticed within ten
# seconds even where each takes the probe's whole limit (3 s).
ALIVE_EVERY_S = 2.0
MISSED_EVERY_S = 1.0
MISSES_MAX = 2
# A service that does not answer for this long is killed and started again.
UNRESPONSIVE_S = 60.0
# A service that has never been ready has failed after two attempts: a person waits for `up`.
FIRST_START_ATTEMPTS = 2
# A failed service is started again all the same, because time may cure it; the pause doubles.
FAILED_RETRY_S, FAILED_RETRY_MAX_S = 30.0, 300.0
# On an overloaded machine a limit is extended this many times: killing what is slow but alive, only
# to start it again, makes such a machine busier.
EXTENSIONS_MAX = 2


class Supervisor:
    """Starts, restarts and stops services until exactly the wanted ones run."""

    def __init__(self, services: Services, *, host: Host, clock: Callable[[], float]) -> None:
        self.services = services
        self.units: dict[str, Unit] = {}
        self.wanted: set[str] = set()
        self._host = host
        self._clock = clock

    def want(self, names: Iterable[str], services: Services | None = None) -> None:
        """Run exactly `names` from now on; failed services among them start again at once.

        Args:
            services: newly read descriptions; a running service keeps its own until it restarts.
        """
        if services is not None:
            self.services = services
        unique = list(dict.fromkeys(names))
        self.wanted = set(unique)
        for name in unique:
            unit = self.units.setdefault(name, Unit(self.services[name]))
            if unit.state == "failed":
                unit.failures.clear()
                unit.attempts = unit.times_failed = 0
                self._set_state(unit, "waiting")

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted and nothing runs."""
        return not self.wanted and not any(unit.alive for unit in self.units.values())

    def tick(self) -> None:
        """Move every unit as far as possible now."""
        for _ in range(len(self.units) * 4 + 1):
            before = [unit.state for unit in self.units.values()]
            for name, unit in self.units.items():
                if unit.state == "stopping":
                    self._check_stopping(unit)
                elif name not in self.wanted:
                    self._stop(name, unit)
                else:
                    self._advance(unit)
            if before == [unit.state for unit in self.units.values()]:
                return

    # -- services that are not wanted

    def _stop(self, name: str, unit: Unit) -> None:
        if unit.process is None:
            self._set_state(unit, "stopped")
            return
        dependents = [other for other in self._dependents(name) if self.units[other].alive]
        if dependents:
            unit.waits_for = f"the end of {', '.join(dependents)}"
            return
        unit.process.signal(unit.service.stop.number)
        grace_s = self._host.grace_s(unit.service)
        unit.deadline = self._clock() + unit.service.stop.timeout_s + grace_s
        self._set_state(unit, "stopping")
        if grace_s:
            unit.waits_for = "writing the JVM start-up cache (first stop only)"

    def _dependents(self, name: str) -> list[str]:
        """Return all units that depend on `name`, directly or through others."""
        dependents: list[str] = []
        for other, unit in self.units.items():
            if name in unit.service.depends_on:
                dependents += [other, *self._dependents(other)]
        return list(dict.fromkeys(dependents))

    def _check_stopping(self, unit: Unit) -> None:
        code = unit.process.exit_code() if unit.process else None
        if unit.process is None or code is not None:
            self._host.ended(unit.service, code, asked=True, ready=unit.ever_ready)
            unit.process = None
            unit.ever_ready = False
            unit.attempts = 0
            self._set_state(unit, "stopped")
        elif self._clock() >= unit.deadline:
            unit.process.kill()

    # -- services that are wanted

    def _advance(self, unit: Unit) -> None:
        if unit.state == "stopped":
            self._set_state(unit, "waiting")
        elif unit.state == "waiting":
            unit.waits_for = self._blocker(unit)
            if not unit.waits_for:
                self._start(unit)
        elif unit.state == "preparing":
            self._check_preparing(unit)
        elif unit.state == "starting":
            self._check_starting(unit)
        elif unit.state in RUNNING:
            self._check_running(unit)
        elif unit.state in ("backoff", "failed") and self._clock() >= unit.retry_at:
            unit.restarts += 1
            self._set_state(unit, "waiting")

    def _blocker(self, unit: Unit) -> str:
        """Return the service that this one has to wait for, with its state; empty for none."""
        unmet = self._unmet_dependency(unit)
        if unmet or unit.service.awaited or unit.ever_ready:
            return unmet
        return self._awaited_first()

    def _unmet_dependency(self, unit: Unit) -> str:
        """Return the first dependency that is not met, with its state; empty where all are met."""
        for name, condition in self.services[unit.service.name].depends_on.items():
            needed = self.units.get(name)
            if needed is None or (name not in self.wanted and not needed.alive):
                continue  # its `when` leaves it out of this stack
            if not _met(needed, condition) and not (
                unit.ever_ready and self._another(needed, condition)
            ):
                return f"{name} ({needed.state})"
        return ""

    def _another(self, needed: Unit, condition: Condition) -> bool:
        """Whether another instance of the same service will do, for what has been ready before."""
        same = needed.service.described_as
        return any(
            _met(unit, condition)
            for unit in self.units.values()
            if unit is not needed and unit.service.described_as == same
        )

    def _awaited_first(self) -> str:
        """Return an awaited service that is starting for the first time; empty where there is none.

        Services that nobody waits for start after it, so that it has the processors.
        """
        awaited = [u for n, u in self.units.items() if n in self.wanted and u.service.awaited]
        if any(unit.state in ("backoff", "failed") for unit in awaited):
            return ""
        starting = [unit for unit in awaited if unit.state in FIRST and not unit.ever_ready]
        return f"{starting[0].service.name} ({starting[0].state})" if starting else ""

    def _start(self, unit: Unit) -> None:
        unit.service = self.services[unit.service.name]
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
            self._record_failure(unit, error, final=not unit.ever_ready)
            return
        now = self._clock()
        if preparing:
            self._set_limit(unit, service.prepare[unit.step].timeout_s)
            self._set_state(unit, "preparing")
            if unit.process is None:
                self._next_step(unit)
            return
        self._set_limit(unit, service.ready.timeout_s if service.ready else service.timeout_s)
        unit.probe_at, unit.probes, unit.observed = now, 0, "not probed yet"
        self._set_state(unit, "starting")

    def _check_preparing(self, unit: Unit) -> None:
        assert unit.process is not None
        code = unit.process.exit_code()
        name = unit.service.name
        if code == 0:
            unit.process = None
            self._next_step(unit)
        elif code is not None:
            unit.process = None
            self._record_failure(
                unit, self._error(unit, f"service `{name}` could not be prepared", code)
            )
        elif self._limit_passed(unit):
            self._kill_late(unit, f"preparing service `{name}` took more than {unit.limit_s:g} s")

    def _check_starting(self, unit: Unit) -> None:
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

    def _set_limit(self, unit: Unit, seconds: float) -> None:
        unit.limit_s, unit.extensions = seconds, 0
        unit.deadline = self._clock() + seconds

    def _limit_passed(self, unit: Unit) -> bool:
        """Whether the limit has passed for good; extends it while the machine is overloaded."""
        if self._clock() < unit.deadline:
            return False
        if unit.extensions == EXTENSIONS_MAX or not self._host.overloaded():
            return True
        step_s = unit.limit_s / (1 + unit.extensions)
        unit.extensions += 1
        unit.limit_s += step_s
        unit.deadline += step_s
        return False

    def _set_ready(self, unit: Unit) -> None:
        unit.ever_ready = True
        unit.misses = unit.times_failed = 0
        unit.probe_at = self._clock() + ALIVE_EVERY_S
        self._set_state(unit, "ready")

    def _check_running(self, unit: Unit) -> None:
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
        self._set_state(unit, "unresponsive")
        never = unit.service.restart.policy == "never"
        self._set_limit(unit, math.inf if never else UNRESPONSIVE_S)
        next_step = "" if never else f"it is started again after {UNRESPONSIVE_S:g} s; "
        name = unit.service.name
        unit.error = HeadwaterError(
            f"service `{name}` runs and does not answer",
            detail=unit.observed,
            log=self._host.log_path(unit.service),
            hint=f"{next_step}read the log: `./headwater logs {name}`",
        )

    # -- ends

    def _record_end(self, unit: Unit, code: int) -> None:
        unit.process = None
        self._host.ended(unit.service, code, asked=False, ready=unit.state in RUNNING)
        name = unit.service.name
        if unit.service.kind == "oneshot":
            if code == 0:
                unit.ever_ready = True
                unit.error = None
                self._set_state(unit, "completed")
                return
            self._record_failure(unit, self._error(unit, f"`{name}` failed", code))
            return
        when = "ended" if unit.state in RUNNING else "ended before it was ready"
        self._record_failure(unit, self._error(unit, f"service `{name}` {when}", code))

    def _kill_late(self, unit: Unit, message: str) -> None:
        """Kill a process whose limit has passed, and count that as a failure."""
        assert unit.process is not None
        error = self._error(unit, message, None)
        unit.process.kill()
        self._host.ended(unit.service, None, asked=False, ready=unit.state in RUNNING)
        unit.process = None
        self._record_failure(unit, error)

    def _record_failure(self, unit: Unit, error: HeadwaterError, *, final: bool = False) -> None:
        now = self._clock()
        restart = unit.service.restart
        unit.error = error
        unit.failures = [at for at in unit.failures if at > now - restart.window_s]
        if self._unmet_dependency(unit):
            unit.attempts -= 1  # the dependency's failure: this service waits for it
        else:
            unit.failures.append(now)
        first_start = unit.service.kind == "service" and not unit.ever_ready
        has_failed = (
            final
            or restart.policy == "never"
            or len(unit.failures) > restart.max_restarts
            or (first_start and unit.attempts >= FIRST_START_ATTEMPTS)
        )
        if has_failed:
            unit.times_failed += 1
            never = restart.policy == "never"
            pause_s = FAILED_RETRY_S * 2.0 ** min(unit.times_failed - 1, 10)
            unit.retry_at = math.inf if never else now + min(FAILED_RETRY_MAX_S, pause_s)
            self._set_state(unit, "failed")
            return
        wait_s = restart.backoff_s * 2.0 ** max(len(unit.failures) - 1, 0)
        unit.retry_at = now + min(restart.backoff_max_s, wait_s)
        self._set_state(unit, "backoff")

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

    def _set_state(self, unit: Unit, state: State) -> None:
        if state != unit.state:
            unit.state = state
            unit.since = self._clock()
            if state != "waiting":
                unit.waits_for = ""


def _met(needed: Unit, condition: Condition) -> bool:
    if condition == "completed":
        return needed.state == "completed"
    if condition == "started":
        return needed.state in ("starting", "ready", "completed")
    return needed.state in ("ready", "completed")
