"""Supervision as a state machine: what runs, what waits, what is started again, what is given up.

The clock and the host (what starts processes and asks whether they are ready) are arguments, so
every history can be replayed in a test. One `tick` does, in this order:
  1. stop what is not wanted, dependents before what they depend on;
  2. notice ended processes and answers of readiness probes;
  3. start what is wanted and whose dependencies are met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from app.errors import HeadwaterError
from app.launcher.service import Condition, Service, Services

State = Literal[
    "waiting", "preparing", "starting", "ready", "completed", "backoff", "failed", "stopping",
    "stopped",
]  # fmt: skip

FIRST: tuple[State, ...] = ("stopped", "waiting", "preparing", "starting")

PROBE_EVERY_S = 0.2
# A service that has never been ready is tried twice only: its user waits in front of `up`.
FIRST_START_TRIES = 2
# On a machine busy with other work a limit is granted so many times more before it counts:
# killing what is slow but alive, only to start it again, makes such a machine busier.
EXTENSIONS_MAX = 2


class Process(Protocol):
    """A started process and its group."""

    @property
    def pid(self) -> int: ...

    @property
    def start_time(self) -> int: ...

    def exit_code(self) -> int | None: ...

    def signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


class Probe(NamedTuple):
    """One answer of a readiness probe, and what was seen."""

    ready: bool
    seen: str


class Host(Protocol):
    """What supervision needs of the machine."""

    def launch(self, service: Service, step: int | None) -> Process | None:
        """Start prepare command `step`, or the service itself (None).

        Returns None where a prepare command has nothing to do. Raises HeadwaterError.
        """

    def grace_s(self, service: Service) -> float:
        """Seconds that this run of the service may take to end beyond its usual limit."""

    def ended(self, service: Service, code: int | None, *, asked: bool, ready: bool) -> None:
        """The service has ended: when `asked` to, or by itself, after it was `ready` or before.

        code: None where it was killed for being late.
        """

    def probe(self, service: Service, process: Process) -> Probe | None:
        """An answer if one has come since the last call (a new question is then put), else None."""

    def last_lines(self, service: Service) -> str:
        """The last lines that the service has written since its start."""

    def log_path(self, service: Service) -> str:
        """The file in which to read on."""

    def overloaded(self) -> bool:
        """Whether the machine has much more to do than it can."""

    def hint(self, service: Service, output: str) -> str:
        """What to do about an end with this output; may be empty."""


@dataclass
class Unit:
    """One service's life so far. Times are the clock's seconds."""

    service: Service
    state: State = "stopped"
    since: float = 0.0
    process: Process | None = None
    step: int = 0
    deadline: float = 0.0
    limit_s: float = 0.0
    extensions: int = 0
    retry_at: float = 0.0
    probe_at: float = 0.0
    probes: int = 0
    seen: str = ""
    waits_for: str = ""
    ever_ready: bool = False
    tries: int = 0
    restarts: int = 0
    failures: list[float] = field(default_factory=list)
    error: HeadwaterError | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None


class Supervisor:
    """Drives the units towards what is wanted."""

    def __init__(self, services: Services, *, host: Host, clock: Callable[[], float]) -> None:
        self.services = services
        self.units: dict[str, Unit] = {}
        self.wanted: set[str] = set()
        self._host = host
        self._clock = clock

    def want(self, names: Iterable[str], services: Services | None = None) -> None:
        """From now on run exactly `names`; what had failed among them gets a fresh chance.

        Args:
            services: newly read descriptions; a running service keeps its own until it restarts.
        """
        if services is not None:
            self.services = services
        asked = list(dict.fromkeys(names))
        self.wanted = set(asked)
        for name in asked:
            unit = self.units.setdefault(name, Unit(self.services[name]))
            if unit.state == "failed":
                unit.failures.clear()
                unit.tries = 0
                self._to(unit, "waiting")

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted and nothing runs."""
        return not self.wanted and not any(unit.alive for unit in self.units.values())

    def tick(self) -> None:
        """Advance every unit as far as it goes now."""
        for _ in range(len(self.units) * 4 + 1):
            before = [unit.state for unit in self.units.values()]
            for name, unit in self.units.items():
                if unit.state == "stopping":
                    self._stopping(unit)
                elif name not in self.wanted:
                    self._unwanted(name, unit)
                else:
                    self._wanted(unit)
            if before == [unit.state for unit in self.units.values()]:
                return

    # -- what is not wanted

    def _unwanted(self, name: str, unit: Unit) -> None:
        if unit.process is None:
            self._to(unit, "stopped")
            return
        dependents = [other for other in self._dependents(name) if self.units[other].alive]
        if dependents:
            unit.waits_for = f"the end of {', '.join(dependents)}"
            return
        unit.process.signal(unit.service.stop.number)
        grace_s = self._host.grace_s(unit.service)
        unit.deadline = self._clock() + unit.service.stop.timeout_s + grace_s
        self._to(unit, "stopping")
        if grace_s:
            unit.waits_for = "once, what makes the next start quicker is written"

    def _dependents(self, name: str) -> list[str]:
        """All units that depend on `name`, directly or through others."""
        found: list[str] = []
        for other, unit in self.units.items():
            if name in unit.service.depends_on:
                found += [other, *self._dependents(other)]
        return list(dict.fromkeys(found))

    def _stopping(self, unit: Unit) -> None:
        code = unit.process.exit_code() if unit.process else None
        if unit.process is None or code is not None:
            self._host.ended(unit.service, code, asked=True, ready=unit.ever_ready)
            unit.process = None
            unit.ever_ready = False
            unit.tries = 0
            self._to(unit, "stopped")
        elif self._clock() >= unit.deadline:
            unit.process.kill()

    # -- what is wanted

    def _wanted(self, unit: Unit) -> None:
        if unit.state == "stopped":
            self._to(unit, "waiting")
        elif unit.state == "waiting":
            unit.waits_for = self._unmet(unit)
            if not unit.waits_for:
                self._begin(unit)
        elif unit.state == "preparing":
            self._preparing(unit)
        elif unit.state == "starting":
            self._starting(unit)
        elif unit.state == "ready":
            code = unit.process.exit_code() if unit.process else None
            if code is not None:
                self._ended(unit, code)
        elif unit.state == "backoff" and self._clock() >= unit.retry_at:
            unit.restarts += 1
            self._to(unit, "waiting")

    def _unmet(self, unit: Unit) -> str:
        for name, condition in self.services[unit.service.name].depends_on.items():
            needed = self.units.get(name)
            if needed is None or (name not in self.wanted and not needed.alive):
                continue  # left out by its `when`
            if not _met(needed, condition):
                return f"{name} ({needed.state})"
        return "" if unit.service.awaited or unit.ever_ready else self._awaited_first()

    def _awaited_first(self) -> str:
        """What somebody waits for and is on its first way up: what nobody waits for gives it the
        processors, unless it has something to show already."""
        awaited = [u for n, u in self.units.items() if n in self.wanted and u.service.awaited]
        if any(unit.state in ("backoff", "failed") for unit in awaited):
            return ""
        first = [unit for unit in awaited if unit.state in FIRST and not unit.ever_ready]
        return f"{first[0].service.name} ({first[0].state})" if first else ""

    def _begin(self, unit: Unit) -> None:
        unit.service = self.services[unit.service.name]
        unit.tries += 1
        unit.step = -1
        self._next_step(unit)

    def _next_step(self, unit: Unit) -> None:
        service = unit.service
        unit.step += 1
        preparing = unit.step < len(service.prepare)
        try:
            unit.process = self._host.launch(service, unit.step if preparing else None)
        except HeadwaterError as error:
            # Wrong templates and missing programs do not mend themselves while a user waits.
            unit.process = None
            self._failed(unit, error, final=not unit.ever_ready)
            return
        now = self._clock()
        if preparing:
            self._limit(unit, service.prepare[unit.step].timeout_s)
            self._to(unit, "preparing")
            if unit.process is None:
                self._next_step(unit)
            return
        self._limit(unit, service.ready.timeout_s if service.ready else service.timeout_s)
        unit.probe_at, unit.probes, unit.seen = now, 0, "not asked yet"
        self._to(unit, "starting")

    def _preparing(self, unit: Unit) -> None:
        assert unit.process is not None
        code = unit.process.exit_code()
        name = unit.service.name
        if code == 0:
            unit.process = None
            self._next_step(unit)
        elif code is not None:
            unit.process = None
            self._failed(unit, self._error(unit, f"service `{name}` could not be prepared", code))
        elif self._too_late(unit):
            self._give_up(unit, f"preparing service `{name}` took more than {unit.limit_s:g} s")

    def _starting(self, unit: Unit) -> None:
        assert unit.process is not None
        service = unit.service
        code = unit.process.exit_code()
        if code is not None:
            self._ended(unit, code)
        elif service.kind == "oneshot":
            if self._too_late(unit):
                self._give_up(unit, f"`{service.name}` took more than {unit.limit_s:g} s")
        elif service.ready is None:
            self._ready(unit)
        elif self._too_late(unit):
            name, limit_s = service.name, unit.limit_s
            self._give_up(unit, f"service `{name}` was not ready within {limit_s:g} s")
        elif self._clock() >= unit.probe_at:
            answer = self._host.probe(service, unit.process)
            if answer is None:
                return
            unit.probe_at = self._clock() + PROBE_EVERY_S
            unit.probes += 1
            unit.seen = answer.seen
            if answer.ready:
                self._ready(unit)

    def _limit(self, unit: Unit, seconds: float) -> None:
        unit.limit_s, unit.extensions = seconds, 0
        unit.deadline = self._clock() + seconds

    def _too_late(self, unit: Unit) -> bool:
        """Whether the limit has passed for good; it is put off while the machine is overloaded."""
        if self._clock() < unit.deadline:
            return False
        if unit.extensions == EXTENSIONS_MAX or not self._host.overloaded():
            return True
        step_s = unit.limit_s / (1 + unit.extensions)
        unit.extensions += 1
        unit.limit_s += step_s
        unit.deadline += step_s
        return False

    def _ready(self, unit: Unit) -> None:
        unit.ever_ready = True
        self._to(unit, "ready")

    # -- ends

    def _ended(self, unit: Unit, code: int) -> None:
        unit.process = None
        self._host.ended(unit.service, code, asked=False, ready=unit.state == "ready")
        name = unit.service.name
        if unit.service.kind == "oneshot":
            if code == 0:
                unit.ever_ready = True
                unit.error = None
                self._to(unit, "completed")
                return
            self._failed(unit, self._error(unit, f"`{name}` failed", code))
            return
        when = "ended" if unit.state == "ready" else "ended before it was ready"
        self._failed(unit, self._error(unit, f"service `{name}` {when}", code))

    def _give_up(self, unit: Unit, message: str) -> None:
        """A limit has passed while the process runs: kill it and count that as a failure."""
        assert unit.process is not None
        error = self._error(unit, message, None)
        unit.process.kill()
        self._host.ended(unit.service, None, asked=False, ready=False)
        unit.process = None
        self._failed(unit, error)

    def _failed(self, unit: Unit, error: HeadwaterError, *, final: bool = False) -> None:
        now = self._clock()
        restart = unit.service.restart
        unit.error = error
        unit.failures = [at for at in unit.failures if at > now - restart.window_s] + [now]
        first_start = unit.service.kind == "service" and not unit.ever_ready
        gives_up = (
            final
            or restart.policy == "never"
            or len(unit.failures) > restart.max_restarts
            or (first_start and unit.tries >= FIRST_START_TRIES)
        )
        if gives_up:
            self._to(unit, "failed")
            return
        wait_s = min(restart.backoff_max_s, restart.backoff_s * 2.0 ** (len(unit.failures) - 1))
        unit.retry_at = now + wait_s
        self._to(unit, "backoff")

    def _error(self, unit: Unit, message: str, code: int | None) -> HeadwaterError:
        output = self._host.last_lines(unit.service)
        if code is None:
            seen = f"{unit.seen}, {unit.probes} tries; " if unit.state == "starting" else ""
            observed = f"{seen}process is running"
        else:
            observed = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        return HeadwaterError(
            message,
            detail=f"{observed}\n{output}" if output else observed,
            log=self._host.log_path(unit.service),
            hint=self._host.hint(unit.service, output),
        )

    def _to(self, unit: Unit, state: State) -> None:
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
