"""What `up`, `down` and `status` do: they ask the supervisor and wait for what it reports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from app.errors import HeadwaterError
from app.launcher import checks, logs
from app.launcher.aot import WRITE_S_MAX
from app.launcher.binary import find_binary, how_to_get, is_available
from app.launcher.host import check_templates
from app.launcher.identity import Shelter, unprivileged_identity
from app.launcher.interrupts import terminated_like_interrupted
from app.launcher.process import start_time
from app.launcher.render import ArtefactPaths, Lookup, Places, make_lookup, render
from app.launcher.service import (
    Service,
    declared_ports,
    is_enabled,
    load_services,
    with_dependencies,
)
from app.launcher.state import Home, Observed, Wanted
from app.launcher.status import Row, status_rows, unavailable_row
from app.launcher.sweep import kill_leftovers
from app.settings import ROOT, Settings, load

POLL_S = 0.1
ANSWER_LIMIT_S = 20.0
UP_LIMIT_S = 3_600.0
STOP_GRACE_S = 30.0 + WRITE_S_MAX
COMMAND_WAIT_S = 60.0
DONE = ("ready", "completed")


class Progress(Protocol):
    """Where a person reads how far it is."""

    def note(self, text: str) -> None:
        """Something has happened."""

    def waiting(self, text: str) -> None:
        """What is being waited for now; replaces the last such text."""


class Preparer(ArtefactPaths, Protocol):
    """Artefacts that can be fetched and unpacked."""

    def prepare(self, groups: Sequence[str]) -> None: ...


class Stack:
    """One home, its settings, and the services that its settings leave in."""

    def __init__(self, settings: Settings, root: Path = ROOT) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self.root = root
        self._started: subprocess.Popen[bytes] | None = None
        self.described = load_services(root)
        self.ports = declared_ports(self.described)
        settings.declare_ports(self.ports)
        enabled = {n: one for n, one in self.described.items() if is_enabled(one, settings)}
        self.services = {name: one for name, one in enabled.items() if is_available(one)}
        # Left out because the machine lacks their program: told, and the rest runs.
        self.unavailable = {name: one for name, one in enabled.items() if name not in self.services}

    # -- up

    def select(self, only: Sequence[str]) -> list[str]:
        """The services to run for `--only`, with what they need; when it is empty all but those
        that have to be named."""
        for name in only:
            if name in self.unavailable:
                raise HeadwaterError(
                    f"service `{name}` cannot run here",
                    detail=how_to_get(self.unavailable[name]),
                )
            if name in self.described and name not in self.services:
                raise HeadwaterError(
                    f"service `{name}` is left out by this stack's settings",
                    detail=f"it runs when `{self.described[name].when}` holds",
                )
        known = {name: self._without_disabled(service) for name, service in self.services.items()}
        return with_dependencies(known, only or [n for n, s in known.items() if s.default])

    def awaited(self, names: Sequence[str], named: Sequence[str] = ()) -> list[str]:
        """Those of `names` that `up` waits for; what a person has `named` is always among them."""
        return [name for name in names if self.services[name].awaited or name in named]

    def _without_disabled(self, service: Service) -> Service:
        needs = {
            name: condition
            for name, condition in service.depends_on.items()
            if name in self.services
        }
        return service.model_copy(update={"depends_on": needs})

    def running(self) -> list[str]:
        """The services that a living supervisor has been asked to run."""
        return self.home.wanted().services if self.home.is_supervised() else []

    def _check(self, names: Sequence[str]) -> list[str]:
        """Look for what would make the start fail; HeadwaterError where something does.

        Returns: those of `names` that do not run yet.
        """
        self._refuse_other_settings()
        self._refuse_other_source()
        new = [name for name in names if name not in self.running()]
        services = [self.services[name] for name in new]
        checks.check_disk(self.home.path)
        checks.check_ports(services, self.settings.port)
        checks.check_memory(services)
        return new

    def check_templates(self, names: Sequence[str], artefacts: ArtefactPaths) -> None:
        """Find unknown variables before anything is started."""
        for name in names:
            check_templates(self.services[name], self._lookup(self.services[name], artefacts))

    def _lookup(self, service: Service, artefacts: ArtefactPaths) -> Lookup:
        return make_lookup(
            settings=self.settings,
            artefacts=artefacts,
            ports=self.ports,
            places=Places(self.home.run(service.name), self.home.data(service.name)),
            folder=service.folder,
            root=self.root,
            python=Path(sys.executable),
            binary=lambda: (
                find_binary(service.requires_binary) if service.requires_binary else None
            ),
        )

    def up(
        self,
        names: Sequence[str],
        artefacts: Preparer,
        progress: Progress,
        named: Sequence[str] = (),
    ) -> None:
        """Start `names` (with their dependencies) and wait until those of `awaited` are ready.

        `named` are the services that a person asked for. What runs already is left alone. On any
        failure, Ctrl-C among them, what this call has started is stopped again.
        Raises: HeadwaterError telling the first failure.
        """
        with self.home.exclusively(COMMAND_WAIT_S):
            if not self.home.is_supervised():
                for pid, name in kill_leftovers(self.home).items():
                    progress.note(f"ended a leftover process of {name} (pid {pid})")
            self._check(names)  # before a long download, and again after it
        artefacts.prepare(sorted({g for name in names for g in self.services[name].artefacts}))
        self.check_templates(names, artefacts)
        self.settings.environment()  # makes every secret now, not by several services at once
        started: list[str] = []
        try:
            with terminated_like_interrupted():
                with self.home.exclusively(COMMAND_WAIT_S):
                    before = self.running()
                    new = self._check(names)
                    self.settings.save()
                    started = new
                    generation = self._ask([*before, *new])
                self._wait_ready(self.awaited(names, named), generation, progress)
        except (HeadwaterError, KeyboardInterrupt) as failure:
            if started:
                what = "stopping" if isinstance(failure, KeyboardInterrupt) else "failed; stopping"
                progress.note(f"{what} what was started")
                self._take_back(started, progress)
            raise

    def _refuse_other_settings(self) -> None:
        if not self.running():
            return
        saved = load(self.home.path)
        saved.declare_ports(self.ports)
        if saved.environment() != self.settings.environment():
            raise HeadwaterError(
                "this stack is running with other settings",
                hint="stop it first: ./headwater down",
            )

    def _refuse_other_source(self) -> None:
        """A lake holds one source: rows of two would be mixed under the same names."""
        if not (self.home.path / "data").is_dir():
            return
        before = checks.source_address(load(self.home.path, port_offset=self.settings.port_offset))
        now = checks.source_address(self.settings)
        if before != now:
            raise HeadwaterError(
                "this stack's data comes from another source",
                detail=f"it holds {before}, and is to capture {now}",
                hint="use another home (HEADWATER_HOME=FOLDER), or remove the data: "
                "./headwater down --wipe",
            )

    def _ask(self, names: Iterable[str]) -> int:
        """Tell the supervisor (a new one where none lives) what is wanted now."""
        wanted = Wanted(self.home.wanted().generation + 1, list(names))
        self.home.save_wanted(wanted)
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while self.home.is_supervised():
            pid = self.home.supervisor()
            if pid is not None:
                os.kill(pid, signal.SIGHUP)
                return wanted.generation
            if time.monotonic() > deadline:
                raise self._supervisor_died()
            time.sleep(POLL_S)  # it is just starting, or just ending
        self._started = start_supervisor(self.home, self.root)
        return wanted.generation

    def _wait_ready(self, names: Sequence[str], generation: int, progress: Progress) -> None:
        started = time.monotonic()
        told: dict[str, str] = {}
        while time.monotonic() < started + UP_LIMIT_S:
            snapshot = self.home.snapshot()
            if snapshot.generation < generation:
                self._check_supervisor(started)
                time.sleep(POLL_S)
                continue
            if self.home.wanted().generation != generation:
                gone = [name for name in names if name not in self.home.wanted().services]
                if gone:
                    raise HeadwaterError(f"another command stops {', '.join(gone)}")
                generation = self.home.wanted().generation
            seen = {name: snapshot.services.get(name, Observed()) for name in names}
            tell(seen, told, started, progress)
            failed = [name for name in names if seen[name].state == "failed"]
            if failed:
                raise HeadwaterError(
                    **(seen[failed[0]].error or {"message": f"{failed[0]} failed"})
                )
            if all(one.state in DONE for one in seen.values()):
                return
            if not self.home.is_supervised():
                raise self._supervisor_died()
            time.sleep(POLL_S)
        raise HeadwaterError(f"not everything was ready within {UP_LIMIT_S:g} s")

    def _check_supervisor(self, started: float) -> None:
        late = time.monotonic() > started + ANSWER_LIMIT_S
        ended = self._started is not None and self._started.poll() is not None
        if late or ended:
            raise self._supervisor_died()

    def _supervisor_died(self) -> HeadwaterError:
        return HeadwaterError(
            "the supervisor does not answer",
            detail="\n".join(logs.tail(self.home.log_file, 8)),
            log=str(self.home.log_file),
            hint="stop what is left with `./headwater down`, then start again",
        )

    def _take_back(self, names: Sequence[str], progress: Progress) -> None:
        with self.home.exclusively(COMMAND_WAIT_S):
            left = [name for name in self.running() if name not in names]
            if not left:
                self._stop(progress)
                return
            generation = self._ask(left)
        limit_s = self._stop_limit_s(names)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            snapshot = self.home.snapshot()
            alive = [n for n in names if snapshot.services.get(n, Observed()).pid is not None]
            if snapshot.generation >= generation and not alive:
                return
            progress.waiting(f"waiting for the end of {', '.join(alive)}")
            time.sleep(POLL_S)

    # -- down

    def down(self, progress: Progress) -> bool:
        """Stop everything, dependents first. Returns: whether anything was running."""
        with self.home.exclusively(COMMAND_WAIT_S):
            return self._stop(progress)

    def _stop(self, progress: Progress) -> bool:
        self.home.save_wanted(Wanted(self.home.wanted().generation + 1, []))
        was_supervised = self.home.is_supervised()
        deadline = time.monotonic() + self._stop_limit_s(list(self.described))
        asked: tuple[int, int] | None = None  # the supervisor's pid and start time
        while self.home.is_supervised() and time.monotonic() < deadline:
            pid = self.home.supervisor()
            if pid is not None and asked is None:
                asked = pid, start_time(pid) or 0
                os.kill(pid, signal.SIGTERM)
            seen = self.home.snapshot().services
            progress.waiting(tell_ends(seen))
            time.sleep(POLL_S)
        pid = self.home.supervisor()
        if pid is not None:
            progress.note("the supervisor does not end: killing it")
            os.kill(pid, signal.SIGKILL)
        # It lets its lock go a moment before it ends: `down` leaves nothing running.
        end_by = time.monotonic() + STOP_GRACE_S
        while asked and start_time(asked[0]) == asked[1] and time.monotonic() < end_by:
            time.sleep(POLL_S)
        left = kill_leftovers(self.home)
        for orphan, name in left.items():
            progress.note(f"ended a leftover process of {name} (pid {orphan})")
        return was_supervised or bool(left)

    def _stop_limit_s(self, names: Sequence[str]) -> float:
        return STOP_GRACE_S + sum(self.described[name].stop.timeout_s for name in names)

    def wipe(self) -> None:
        """Remove the data, the logs, the settings and the secrets of this (stopped) stack."""
        if self.home.is_supervised():
            raise HeadwaterError("the stack is running", hint="stop it first: ./headwater down")
        shelter = Shelter(self.home.path, unprivileged_identity())
        shutil.rmtree(shelter.folder, ignore_errors=True)
        for name in ("run", "data", "verify", "rebuild"):
            shutil.rmtree(self.home.path / name, ignore_errors=True)
        for pattern in ("*.json", "settings.toml", "supervisor.log*", "supervisor.pid"):
            for path in self.home.path.glob(pattern):
                path.unlink(missing_ok=True)

    # -- what is

    def status(self, names: Sequence[str] = ()) -> list[Row]:
        """One row per service in dependency order; see `status_rows`."""
        for name in names:
            if name not in self.described:
                known = ", ".join(self.described)
                raise HeadwaterError(f"there is no service `{name}`", hint=f"known are {known}")
        chosen = (
            [one for one in self.services.values() if one.name in names] if names else self._shown()
        )
        missing = [s for s in self.unavailable.values() if not names or s.name in names]
        rows = status_rows(chosen, self.home, self.settings.port)
        return [*rows, *(unavailable_row(one, how_to_get(one)) for one in missing)]

    def urls(self, artefacts: ArtefactPaths) -> dict[str, str]:
        """Name → address, of every service that runs by this stack's settings."""
        found = {}
        for service in self._shown():
            lookup = self._lookup(service, artefacts)
            for name, template in service.urls.items():
                found[name] = render(template, lookup, where=str(service.source))
        return found

    def _shown(self) -> list[Service]:
        """The services that `up` starts, and those that were named and run."""
        wanted = self.home.wanted().services
        return [s for s in self.services.values() if s.default or s.name in wanted]

    def log_files(self, name: str) -> list[Path]:
        """The log files of a service, or of the supervisor."""
        if name == "supervisor":
            return [self.home.log_file]
        if name not in self.described:
            known = ", ".join([*self.described, "supervisor"])
            raise HeadwaterError(f"there is no service `{name}`", hint=f"known are {known}")
        run = self.home.run(name)
        return [run / "stdout.log", run / "stderr.log"]


def tell(
    seen: dict[str, Observed], told: dict[str, str], started: float, progress: Progress
) -> None:
    """Note each change since the last call, and what is waited for."""
    for name, one in seen.items():
        if told.get(name) == one.state:
            continue
        told[name] = one.state
        after = f"after {time.monotonic() - started:.1f} s"
        if one.state in DONE:
            progress.note(f"{name}: {one.state} {after}")
        elif one.state == "backoff":
            why = (one.error or {}).get("message", "it ended")
            progress.note(f"{name}: {why}; it is tried again")
        elif one.state == "failed":
            why = (one.error or {}).get("message", "it failed")
            progress.note(f"{name}: {why}; see `./headwater logs {name}`")
    active = [
        f"{name} ({one.waits_for or one.state})"
        for name, one in seen.items()
        if one.state in ("preparing", "starting", "backoff", "stopping")
    ]
    progress.waiting(f"waiting for {'; '.join(active)}" if active else "waiting")


def tell_ends(seen: dict[str, Observed]) -> str:
    """What still runs, and why its end takes longer than usual."""
    alive = [name for name, one in seen.items() if one.pid is not None]
    reasons = sorted({one.waits_for for one in seen.values() if one.state == "stopping"} - {""})
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return f"waiting for the end of {', '.join(alive) or 'the supervisor'}{why}"


def start_supervisor(home: Home, root: Path) -> subprocess.Popen[bytes]:
    """Start the supervisor of `home` in a session of its own; it outlives this process."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "HEADWATER_HOME": str(home.path), "PYTHONPATH": path}
    environment.pop("HEADWATER_SERVICE", None)
    with open(home.log_file, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "app.launcher.supervisor", str(home.path), str(root)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
