"""Supervision as a state machine: brings services to the states that are wanted.

The clock and the host (which starts and probes processes) are arguments, so a test can play any
sequence of events. One `tick` does, in this order:
  1. stop services that are not wanted, dependents before their dependencies;
  2. notice processes that have ended, and answers of probes;
  3. start wanted services whose dependencies are met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from app.launcher.supervision.attempt import Attempts
from app.launcher.supervision.dependencies import blocker, living_dependents, unmet_dependency
from app.launcher.supervision.unit import RUNNING, Host, Unit
from app.services.service import Services


class Supervisor:
    """Starts, restarts and stops services until exactly the wanted ones run."""

    def __init__(self, services: Services, *, host: Host, clock: Callable[[], float]) -> None:
        self.services = services
        self.at_once = False  # whether services end without their own last steps, in any order
        self.units: dict[str, Unit] = {}
        self.wanted: set[str] = set()
        self._clock = clock
        self._attempts = Attempts(
            host,
            clock,
            dependency_down=lambda unit: bool(
                unmet_dependency(unit, self.units, self.wanted, self.services)
            ),
        )

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
                unit.attempts = unit.times_failed = unit.failures_in_row = 0
                unit.move_to("waiting", self._clock())

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
                    self._attempts.check_stopping(unit)
                elif name not in self.wanted:
                    self._stop(name, unit)
                else:
                    self._advance(unit)
            if before == [unit.state for unit in self.units.values()]:
                return

    def _stop(self, name: str, unit: Unit) -> None:
        if unit.process is None:
            unit.move_to("stopped", self._clock())
        elif not self.at_once and (dependents := living_dependents(name, self.units)):
            unit.waits_for = f"the end of {', '.join(dependents)}"
        else:
            self._attempts.stop(unit, at_once=self.at_once)

    def _advance(self, unit: Unit) -> None:
        if unit.state == "stopped":
            unit.move_to("waiting", self._clock())
        elif unit.state == "waiting":
            unit.waits_for = blocker(unit, self.units, self.wanted, self.services)
            if not unit.waits_for:
                self._attempts.start(unit, self.services[unit.service.name])
        elif unit.state == "preparing":
            self._attempts.check_preparing(unit)
        elif unit.state == "starting":
            self._attempts.check_starting(unit)
        elif unit.state in RUNNING:
            self._attempts.check_running(unit)
        elif unit.state in ("backoff", "failed") and self._clock() >= unit.retry_at:
            unit.restarts += 1
            unit.move_to("waiting", self._clock())
