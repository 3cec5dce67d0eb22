"""A supervisor in a world of the test's own: its clock, its processes, its answers of probes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import HeadwaterError
from app.launcher.supervision.state_machine import Supervisor
from app.launcher.supervision.unit import Probe
from app.services.service import Service


class FakeProcess:
    """A process that ends when the test says so."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.start_time = 1
        self.code: int | None = None
        self.signals: list[int] = []
        self.killed = False

    def exit_code(self) -> int | None:
        return self.code

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.killed = True
        self.code = -9


class FakeHost:
    """Starts nothing; remembers every start in order."""

    def __init__(self) -> None:
        self.starts: list[tuple[str, int | None]] = []
        self.processes: dict[str, FakeProcess] = {}
        self.ready: set[str] = set()
        self.silent: set[str] = set()  # they run and answer nothing
        self.probe_s = 0.0  # how long a probe takes to find that
        self.asked: dict[str, float] = {}
        self.clock: Callable[[], float] = lambda: 0.0
        self.skipped: set[tuple[str, int]] = set()
        self.refused: dict[str, HeadwaterError] = {}
        self.busy = False
        self.grace: dict[str, float] = {}
        self.ends: list[tuple[str, int | None, bool, bool]] = []

    def grace_s(self, service: Service) -> float:
        return self.grace.get(service.name, 0.0)

    def ended(self, service: Service, code: int | None, *, asked: bool, ready: bool) -> None:
        self.ends.append((service.name, code, asked, ready))

    def launch(self, service: Service, step: int | None) -> FakeProcess | None:
        if service.name in self.refused:
            raise self.refused[service.name]
        if step is not None and (service.name, step) in self.skipped:
            return None
        self.starts.append((service.name, step))
        self.processes[service.name] = FakeProcess(100 + len(self.starts))
        return self.processes[service.name]

    def probe(self, service: Service, process: Any, *, running: bool) -> Probe | None:
        if running:
            asked_at = self.asked.setdefault(service.name, self.clock())
            if service.name in self.silent and self.clock() < asked_at + self.probe_s:
                return None
            del self.asked[service.name]
            return Probe(service.name not in self.silent, f"asked {service.name} again")
        return Probe(service.name in self.ready, f"asked {service.name}")

    def last_lines(self, service: Service) -> str:
        return f"last words of {service.name}"

    def log_path(self, service: Service) -> str:
        return f"run/{service.name}/stderr.log"

    def overloaded(self) -> bool:
        return self.busy

    def hint(self, service: Service, output: str) -> str:
        return "look there"


class World:
    """A supervisor in a world whose time only we move."""

    def __init__(self, *services: Service) -> None:
        self.now = 0.0
        self.host = FakeHost()
        described = {service.name: service for service in services}
        self.host.clock = lambda: self.now
        self.supervisor = Supervisor(described, host=self.host, clock=self.host.clock)

    @classmethod
    def running(cls, *services: Service) -> World:
        """A world in which these services are wanted, and are ready one after the other."""
        world = cls(*services)
        names = [service.name for service in services]
        world.want(*names)
        for name in names:
            world.ready(name)
        return world

    def want(self, *names: str) -> None:
        self.supervisor.want(names)
        self.supervisor.tick()

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.supervisor.tick()

    def ready(self, *names: str) -> None:
        self.host.ready.update(names)
        self.after(0.3)

    def ends(self, name: str, code: int) -> None:
        self.host.processes[name].code = code
        self.supervisor.tick()

    def state(self, name: str) -> str:
        return self.supervisor.units[name].state

    def error(self, name: str) -> HeadwaterError:
        """Why the service does not run, or not well."""
        error = self.supervisor.units[name].error
        assert error is not None
        return error

    @property
    def started(self) -> list[str]:
        return [name for name, step in self.host.starts if step is None]


def service(name: str, **given: Any) -> Service:
    body = {"description": name, "command": [name], "folder": Path("/x"), "name": name}
    if given.get("kind") != "oneshot":
        body["ready"] = {"tcp": "127.0.0.1:1", "timeout_s": 60}
    return Service.model_validate({**body, **given})
