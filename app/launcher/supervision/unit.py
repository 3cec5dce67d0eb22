"""One supervised service and its state, and the interfaces of the machine that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from app.errors import HeadwaterError
from app.services.service import Service

State = Literal[
    "waiting", "preparing", "starting", "ready", "unresponsive", "completed", "backoff", "failed",
    "stopping", "stopped",
]  # fmt: skip

# States of a service that is on its way to be ready.
FIRST: tuple[State, ...] = ("stopped", "waiting", "preparing", "starting")

# States of a service that has been ready and whose process lives.
RUNNING: tuple[State, ...] = ("ready", "unresponsive")


# On an overloaded machine a limit is extended this many times: killing and restarting a slow but living service makes
# such a machine busier.
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
    """The result of one probe: whether the service answered correctly, and the observation."""

    ready: bool
    observed: str


class Host(Protocol):
    """The machine, as supervision needs it."""

    def launch(self, service: Service, step: int | None) -> Process | None:
        """Start prepare command `step`, or the service itself if `step` is None.

        Returns None if a prepare command has nothing to do. Raises HeadwaterError.
        """

    def grace_s(self, service: Service) -> float:
        """Return how many seconds longer than usual this run of the service may take to end."""

    def ended(self, service: Service, code: int | None, *, asked: bool, ready: bool) -> None:
        """Take note that the service has ended.

        Args:
            code: its exit code; None if it was killed because a limit had passed.
            asked: whether it was asked to end.
            ready: whether it had been ready.
        """

    def probe(self, service: Service, process: Process, *, running: bool) -> Probe | None:
        """Return the result of the running probe once there is one; if no probe runs, start one.

        Args:
            running: the service has been ready: probe whether it still answers.
        Returns: None while there is no result.
        """

    def last_lines(self, service: Service) -> str:
        """Return the last lines that the service has written since its start."""

    def log_path(self, service: Service) -> str:
        """Return the log file that a person should read."""

    def overloaded(self) -> bool:
        """Whether far more threads want to run than the machine has processors."""

    def hint(self, service: Service, output: str) -> str:
        """Return what to do about an end with this output; may be empty."""


@dataclass
class Unit:
    """The state of one service. Times are in seconds of the supervisor's clock."""

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
    observed: str = ""  # by the last probe
    waits_for: str = ""
    ever_ready: bool = False
    ready_since: float = 0.0  # of this run
    attempts: int = 0  # starts since it was last stopped
    restarts: int = 0
    failures: list[float] = field(default_factory=list)
    failures_in_row: int = 0  # since it was last ready for `restart_policy.STEADY_S`
    times_failed: int = 0  # in a row: how often its state became `failed`
    misses: int = 0  # probes in a row that a running service has not answered
    error: HeadwaterError | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None

    def move_to(self, state: State, now: float) -> None:
        """Change the state, and since when it is."""
        if state != self.state:
            self.state = state
            self.since = now
            if state != "waiting":
                self.waits_for = ""

    def set_limit(self, seconds: float, now: float) -> None:
        """Limit the running step to this long from now."""
        self.limit_s, self.extensions = seconds, 0
        self.deadline = now + seconds

    def limit_passed(self, now: float, overloaded: Callable[[], bool]) -> bool:
        """Whether the limit has passed for good; extends it while the machine is overloaded."""
        if now < self.deadline:
            return False
        if self.extensions == EXTENSIONS_MAX or not overloaded():
            return True
        step_s = self.limit_s / (1 + self.extensions)
        self.extensions += 1
        self.limit_s += step_s
        self.deadline += step_s
        return False
