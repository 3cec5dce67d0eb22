"""Carries out `up`, `down` and `status`: sends requests to the supervisor and waits for its reports."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from app.environment.settings import ROOT, Settings, load
from app.errors import HeadwaterError
from app.launcher import start_checks as checks
from app.launcher.host import check_templates
from app.launcher.leftovers import kill_leftovers
from app.launcher.observed_status import (
    Progress,
    Row,
    status_rows,
    unavailable_row,
)
from app.launcher.state import Home
from app.launcher.supervisor_requests import SupervisorRequests
from app.launcher.trust import prepare_access, prepare_trust
from app.launcher.upgrade import refuse_older_supervisor, stamp_home
from app.processes.identity import Shelter, unprivileged_identity
from app.processes.interrupts import terminated_like_interrupted
from app.services.binary import find_binary, how_to_get, is_available
from app.services.described import services_of
from app.services.service import (
    Service,
    as_chosen,
    declared_ports,
    is_enabled,
    why_left_out,
    with_dependencies,
)
from app.services.templates import ArtefactPaths, Lookup, Places, Variables, render

COMMAND_WAIT_S = 60.0


class Preparer(ArtefactPaths, Protocol):
    """Fetches and unpacks artefacts."""

    def prepare(self, groups: Sequence[str]) -> None: ...


class Stack:
    """One home, its settings, and the services that run under these settings."""

    def __init__(self, settings: Settings, root: Path = ROOT) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self.root = root
        self.described = services_of(root, settings.profile)
        self._supervisor = SupervisorRequests(self.home, root, self.described)
        self.ports = declared_ports(self.described)
        settings.ports.declare(self.ports)
        profile = settings.profile
        enabled = {
            n: as_chosen(one, profile)
            for n, one in self.described.items()
            if is_enabled(one, profile)
        }
        self.services = {name: one for name, one in enabled.items() if is_available(one)}
        # The machine lacks their program: `status` says so, and the rest runs.
        self.unavailable = {name: one for name, one in enabled.items() if name not in self.services}

    # -- up

    def select(self, only: Sequence[str]) -> list[str]:
        """Return the services to run for `--only`, in all their instances, with those that they need.

        Without `--only` these are all services except those that have to be named.
        """
        for name in only:
            if name in self.unavailable:
                raise HeadwaterError(
                    f"service `{name}` cannot run here",
                    detail=how_to_get(self.unavailable[name]),
                )
            if name in self.described and name not in self.services:
                raise HeadwaterError(
                    f"service `{name}` is left out by this stack's settings",
                    detail=why_left_out(self.described[name], self.settings.profile),
                )
        known = {name: self._without_disabled(service) for name, service in self.services.items()}
        named = [*only, *(n for n, s in known.items() if s.instance > 1 and s.described_as in only)]
        return with_dependencies(known, named or [n for n, s in known.items() if s.default])

    def awaited(self, names: Sequence[str], named: Sequence[str] = ()) -> list[str]:
        """Return those of `names` that `up` waits for, always including those that the user has `named`."""
        return [name for name in names if self.services[name].awaited or name in named]

    def _without_disabled(self, service: Service) -> Service:
        needs = {
            name: condition
            for name, condition in service.depends_on.items()
            if name in self.services
        }
        return service.model_copy(update={"depends_on": needs})

    def running(self) -> list[str]:
        """Return the services that a living supervisor has been asked to run."""
        return self.home.wanted().services if self.home.is_supervised() else []

    def _check(self, names: Sequence[str]) -> list[str]:
        """Check settings, source, disk, ports and memory; HeadwaterError if the start would fail.

        Returns: those of `names` that do not run yet.
        """
        refuse_older_supervisor(self.home)
        self._refuse_other_settings()
        self._refuse_other_source()
        self._refuse_other_brokers()
        new = [name for name in names if name not in self.running()]
        services = [self.services[name] for name in new]
        checks.check_disk(self.home.path)
        checks.check_ports(services, self.settings.ports.number)
        checks.check_memory(services)
        return new

    def check_templates(self, names: Sequence[str], artefacts: ArtefactPaths) -> None:
        """Render all templates of these services, to find unknown variables before the start."""
        for name in names:
            check_templates(self.services[name], self._lookup(self.services[name], artefacts))

    def _lookup(self, service: Service, artefacts: ArtefactPaths) -> Lookup:
        return Variables(
            settings=self.settings,
            artefacts=artefacts,
            ports=self.ports,
            places=Places(self.home.run(service.name), self.home.data(service.name)),
            service=service,
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

        `named` are the services that a person asked for. Running services are left alone. On any failure, and on
        Ctrl-C, this call stops everything that it has started.
        Raises: HeadwaterError with the first failure.
        """
        with self.home.exclusively(COMMAND_WAIT_S):
            if not self.home.is_supervised():
                for pid, name in kill_leftovers(self.home).items():
                    progress.note(f"ended a leftover process of {name} (pid {pid})")
            self._check(names)  # before a long download, and again after it
        prepare_trust(self.settings, running=bool(self.running()))  # also pip's
        artefacts.prepare(sorted({g for name in names for g in self.services[name].artefacts}))
        prepare_access(self.settings, running=bool(self.running()))
        self.check_templates(names, artefacts)
        self.settings.environment()  # generates every secret now, before several services need them
        started: list[str] = []
        try:
            with terminated_like_interrupted():
                with self.home.exclusively(COMMAND_WAIT_S):
                    before = self.running()
                    new = self._check(names)
                    stamp_home(self.home, progress)
                    self.settings.save()
                    started = new
                    generation = self._supervisor.run([*before, *new])
                self._supervisor.await_ready(self.awaited(names, named), generation, progress)
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
        saved.ports.declare(self.ports)
        if saved.environment() != self.settings.environment():
            raise HeadwaterError(
                "this stack is running with other settings",
                hint="stop it first: ./headwater down",
            )

    def _refuse_other_source(self) -> None:
        """Refuse a source other than the data's: rows of two sources would be mixed."""
        if not (self.home.path / "data").is_dir():
            return
        before = checks.source_address(
            load(self.home.path, port_offset=self.settings.profile.port_offset)
        )
        now = checks.source_address(self.settings)
        if before != now:
            raise HeadwaterError(
                "this stack's data comes from another source",
                detail=f"it holds {before}, but the settings name {now}",
                hint="use another home (HEADWATER_HOME=FOLDER), or remove the data: "
                "./headwater down --wipe",
            )

    def _refuse_other_brokers(self) -> None:
        """Refuse to change the number of brokers once there is data: topics stay on their brokers."""
        if not (self.home.path / "data" / "kafka").is_dir():
            return
        before, now = (
            load(self.home.path).profile.kafka_brokers,
            self.settings.profile.kafka_brokers,
        )
        if before != now:
            raise HeadwaterError(
                f"this stack's data is that of {before} Kafka broker{'s' if before > 1 else ''}",
                detail=f"`kafka_brokers` is {now}",
                hint="use another home (HEADWATER_HOME=FOLDER), or remove the data: "
                "./headwater down --wipe",
            )

    def _take_back(self, names: Sequence[str], progress: Progress) -> None:
        with self.home.exclusively(COMMAND_WAIT_S):
            left = [name for name in self.running() if name not in names]
            if not left:
                self._supervisor.end_all(progress)
                return
            generation = self._supervisor.run(left)
        self._supervisor.await_end(names, generation, progress)

    # -- down

    def down(self, progress: Progress, *, to_wipe: bool = False) -> bool:
        """Stop everything, dependents first. Returns: whether anything was running.

        Where the data is to be wiped and no part is the user's own, everything is ended at once.
        """
        profile = self.settings.profile
        embedded = profile.embedded_source and profile.embedded_kafka and profile.embedded_s3
        at_once = to_wipe and embedded and not profile.sources
        with self.home.exclusively(COMMAND_WAIT_S):
            return self._supervisor.end_all(progress, at_once=at_once)

    def wipe(self) -> None:
        """Remove the data, the logs, the settings and the secrets of this (stopped) stack."""
        if self.home.is_supervised():
            raise HeadwaterError("the stack is running", hint="stop it first: ./headwater down")
        shelter = Shelter(self.home.path, unprivileged_identity())
        shutil.rmtree(shelter.folder, ignore_errors=True)
        for name in ("run", "data", "tls", "access", "verify", "rebuild"):
            shutil.rmtree(self.home.path / name, ignore_errors=True)
        for pattern in ("*.json", "settings.toml", "supervisor.log*", "supervisor.pid"):
            for path in self.home.path.glob(pattern):
                path.unlink(missing_ok=True)

    # -- what runs

    def status(self, names: Sequence[str] = ()) -> list[Row]:
        """Return one row per service in dependency order; see `status_rows`."""
        for name in names:
            if name not in self.described:
                known = ", ".join(self.described)
                raise HeadwaterError(f"there is no service `{name}`", hint=f"known are {known}")
        chosen = (
            [one for one in self.services.values() if one.name in names] if names else self._shown()
        )
        missing = [s for s in self.unavailable.values() if not names or s.name in names]
        rows = status_rows(chosen, self.home, self.settings.ports.number)
        return [*rows, *(unavailable_row(one, how_to_get(one)) for one in missing)]

    def urls(self, artefacts: ArtefactPaths) -> dict[str, str]:
        """Return name → address of every service of this stack, and of the user's own parts."""
        addresses = {}
        for service in self._shown():
            lookup = self._lookup(service, artefacts)
            for name, template in service.urls.items():
                addresses[name] = render(template, lookup, where=str(service.source))
        return addresses | self.settings.profile.own_parts()

    def _shown(self) -> list[Service]:
        """Return the services that `up` starts, and those that run because they were named."""
        wanted = self.home.wanted().services
        return [s for s in self.services.values() if s.default or s.name in wanted]

    def log_files(self, name: str) -> list[Path]:
        """Return the log files of a service, or of the supervisor."""
        if name == "supervisor":
            return [self.home.log_file]
        if name not in self.described:
            known = ", ".join([*self.described, "supervisor"])
            raise HeadwaterError(f"there is no service `{name}`", hint=f"known are {known}")
        run = self.home.run(name)
        return [run / "stdout.log", run / "stderr.log"]
