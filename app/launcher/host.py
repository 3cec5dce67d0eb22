"""The real machine behind supervision: renders templates, starts and probes services, reads logs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from app.environment.settings import Settings, of_source
from app.environment.toml_files import SettingsError
from app.errors import HeadwaterError
from app.health.disk import FULL, cause, disks
from app.launcher import readiness_probe
from app.launcher.aot import AotCaches
from app.launcher.leftovers import remove_stale_pid_file
from app.launcher.liveness_probe import StoppedProcesses, probe_running
from app.launcher.state import Home
from app.launcher.supervision.unit import Probe, Process
from app.launcher.trust import jvm_options, key_pair
from app.processes import log_files as logs
from app.processes.identity import Shelter, give_files, unprivileged_identity
from app.processes.log_pump import LogPump
from app.processes.process import Identity, spawn
from app.services.binary import find_binary
from app.services.description_parts import Ready
from app.services.quoting import quoting
from app.services.service import Service
from app.services.templates import ArtefactPaths, Lookup, Places, Variables, render

LAST_LINES = 8
PROBES_AT_ONCE = 8
OVERLOAD_PER_CPU = 2.0
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

HINTS = (
    (r"error while loading shared libraries: (\S+?):",
     "install the system package that provides {0}, then run it again"),
    (r"(?i)address already in use",
     "another program took the port meanwhile: find it with `ss -ltnp`, or use --port-offset"),
    (r"(?i)no space left on device", "free some disk space, then run `up` again"),
    (r"(?i)(?<!ExitOn)OutOfMemoryError|Cannot allocate memory|insufficient memory",
     "free some memory, or stop other programs, then run `up` again"),
    (r"cannot become user",
     "root may not change users here (a container without that right?): run as an ordinary user"),
    (r"(?i)permission denied", "find the file in the log, and see who owns it"),
)  # fmt: skip


@dataclass
class _Start:
    """The latest start of a service."""

    lookup: Lookup
    places: Places
    identity: Identity | None
    environment: dict[str, str]
    log_offsets: dict[Path, int] = field(default_factory=dict)
    probing: Future[Probe] | None = None


class RealHost:
    """Starts services as processes of this machine."""

    def __init__(self, settings: Settings, artefacts: ArtefactPaths, *, root: Path) -> None:
        self.ports: Mapping[str, int] = {}  # every described port, by name; grows with new services
        self.aot = AotCaches()
        self._settings = settings
        self._artefacts = artefacts
        self._root = root
        self._home = Home(settings.home)
        self._starts: dict[str, _Start] = {}
        self._stopped = StoppedProcesses()
        self._pump = LogPump()
        self._tidying: Future[None] | None = None
        self._pool = ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="probe")

    # -- starting

    def launch(self, service: Service, step: int | None) -> Process | None:
        try:
            return self._launch(service, step)
        except (OSError, SettingsError) as error:
            raise HeadwaterError(
                f"service `{service.name}` could not be started", detail=str(error)
            ) from error

    def _launch(self, service: Service, step: int | None) -> Process | None:
        first = step == 0 or (step is None and not service.prepare)
        start = self._begin(service) if first else self._starts[service.name]
        where = f"{service.source} (service `{service.name}`)"
        if step is None:
            command = service.command
        else:
            prepare = service.prepare[step]
            command = prepare.command
            if prepare.creates:
                made = Path(render(prepare.creates, start.lookup, where=where))
                if made.exists():
                    return None
        rendered = [render(word, start.lookup, where=where) for word in command]
        if step is None:
            options = self._aot_options(start.places)
            self.aot.begin(service, start.lookup, options, jvm_options(self._settings))
        self._pump.drain()
        start.log_offsets = {path: logs.size(path) for path in self._logs(service)}
        pipes: list[int] = []
        try:
            pipes.extend(self._pump.open(path) for path in self._logs(service))
            return spawn(
                rendered,
                environment=start.environment,
                folder=start.places.run,
                stdout=pipes[0],
                stderr=pipes[1],
                identity=start.identity,
            )
        finally:
            for pipe in pipes:
                os.close(pipe)

    def _begin(self, service: Service) -> _Start:
        previous = self._starts.get(service.name)
        if previous is not None and previous.probing is not None:
            previous.probing.cancel()
        identity, shelter = None, None
        if service.unprivileged and os.geteuid() == 0:
            identity = unprivileged_identity()
            shelter = Shelter(self._home.path, identity)
        places = self._places(service.name, shelter)
        lookup = Variables(
            settings=self._settings_for(service),
            artefacts=self._artefacts,
            ports=self.ports,
            places=places,
            service=service,
            folder=service.folder,
            root=self._root,
            python=Path(sys.executable),
            relocate=shelter.copy if shelter else lambda path: path,
            aot=self._aot_options(places),
            binary=lambda: (
                find_binary(service.requires_binary) if service.requires_binary else None
            ),
        )
        start = _Start(lookup, places, identity, self._environment(service, places, lookup))
        self._starts[service.name] = start
        pair = key_pair(self._settings, service, places.run)
        rendered = [
            write_rendered(service, name, template, places.run, lookup)
            for name, template in service.files.items()
        ]
        shutil.rmtree(places.tmp, ignore_errors=True)
        places.tmp.mkdir(mode=0o700)
        if identity is not None:
            give_files([*rendered, *pair, places.tmp], identity)
        where = f"{service.source} (pid_files of service `{service.name}`)"
        for pid_file in service.pid_files:
            remove_stale_pid_file(Path(render(pid_file, lookup, where=where)))
        return start

    @staticmethod
    def _aot_options(places: Places) -> Path:
        return places.run / "aot.options"

    def _places(self, name: str, shelter: Shelter | None) -> Places:
        run, data = self._home.run(name), self._home.data(name)
        if shelter is not None:
            return Places(shelter.place(run, "run", ours=True), shelter.place(data, "data"))
        for folder in (run, data):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Places(run, data)

    def _environment(self, service: Service, places: Places, lookup: Lookup) -> dict[str, str]:
        # Few variables of the user's shell are passed on: JAVA_TOOL_OPTIONS, PYTHON* or SPARK_*
        # of another project would change our services, and nobody would know why.
        base = {
            "PATH": os.environ.get("PATH", BASE_PATH),
            "HOME": str(places.run),
            "TMPDIR": str(places.tmp),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONPATH": str(self._root),
            "PYTHONUNBUFFERED": "1",
            "HEADWATER_SERVICE": service.name,
        }
        if "HEADWATER_CACHE" in os.environ:
            base["HEADWATER_CACHE"] = os.environ["HEADWATER_CACHE"]
        where = f"{service.source} (environment of service `{service.name}`)"
        own = {k: render(v, lookup, where=where) for k, v in service.environment.items()}
        ours = self._settings_for(service).environment(service.secrets, service.described_as)
        return {**base, **ours, **own}

    def _settings_for(self, service: Service) -> Settings:
        source = service.works_for
        return of_source(self._settings, source) if source else self._settings

    # -- ending

    def grace_s(self, service: Service) -> float:
        return self.aot.grace_s(service)

    def ended(self, service: Service, code: int | None, *, asked: bool, ready: bool) -> None:
        self.aot.ended(service, code, asked=asked, ready=ready)

    # -- probing

    def probe(self, service: Service, process: Process, *, running: bool) -> Probe | None:
        start = self._starts[service.name]
        if start.probing is None:
            if running:
                start.probing = self._pool.submit(self._probe_running, service, start, process.pid)
            else:
                start.probing = self._pool.submit(self._probe_ready, service, start)
            return None
        if not start.probing.done():
            return None
        result = start.probing.result()
        start.probing = None
        return result

    def _probe_running(self, service: Service, start: _Start, session: int) -> Probe:
        stopped = self._stopped.of(session)
        if stopped is not None:
            return Probe(False, f"process {stopped} is stopped by a signal (SIGSTOP)")
        where = f"{service.source} (service `{service.name}`)"
        return probe_running(service, lambda text: render(text, start.lookup, where=where))

    def _probe_ready(self, service: Service, start: _Start) -> Probe:
        ready: Ready | None = service.ready
        assert ready is not None
        where = f"{service.source} (ready of service `{service.name}`)"
        if ready.tcp is not None:
            return readiness_probe.probe_tcp(render(ready.tcp, start.lookup, where=where))
        if ready.http is not None:
            return readiness_probe.probe_http(
                render(ready.http, start.lookup, where=where), ready.status
            )
        if ready.log is not None:
            return readiness_probe.probe_log(ready.log, start.log_offsets)
        command = [render(word, start.lookup, where=where) for word in ready.command or []]

        def run(words: Sequence[str]) -> subprocess.Popen[bytes]:
            user = start.identity
            return subprocess.Popen(
                words,
                env=start.environment,
                cwd=start.places.run,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )

        return readiness_probe.probe_command(command, run)

    # -- logs

    def _logs(self, service: Service) -> tuple[Path, Path]:
        run = self._home.run(service.name)
        return run / "stdout.log", run / "stderr.log"

    def last_lines(self, service: Service) -> str:
        """Return the last lines of stderr since the start; those of stdout if stderr is empty."""
        start = self._starts.get(service.name)
        if start is None:
            return ""
        self._pump.drain()
        stdout, stderr = self._logs(service)
        for path in (stderr, stdout):
            found = logs.tail(path, LAST_LINES, since=start.log_offsets.get(path, 0))
            if found:
                return "\n".join(found)
        return ""

    def log_path(self, service: Service) -> str:
        stdout, stderr = self._logs(service)
        start = self._starts.get(service.name)
        offset = start.log_offsets.get(stderr, 0) if start else 0
        return str(stderr if logs.size(stderr) > offset else stdout)

    def overloaded(self) -> bool:
        """Whether more than twice as many threads want to run as there are processors."""
        return os.getloadavg()[0] > OVERLOAD_PER_CPU * (os.cpu_count() or 1)

    def hint(self, service: Service, output: str) -> str:
        full = [disk for disk in disks(self._home.path) if disk.state == FULL]
        if full:  # many programs do not mention it in their last lines
            return f"free some disk space, then it continues by itself: {cause(full[0])}"
        for pattern, advice in HINTS:
            found = re.search(pattern, output)
            if found:
                return advice.format(*found.groups())
        return f"read the log: `./headwater logs {service.name}`"

    def tidy_logs(self, services: Sequence[Service]) -> None:
        """Start to compress the older logs of these services, and to remove the oldest.

        Raises: the OSError of the previous run.
        """
        if self._tidying is not None:
            if not self._tidying.done():
                return
            done, self._tidying = self._tidying, None
            done.result()
        paths = [path for service in services for path in self._logs(service)]

        def tidy() -> None:
            for path in paths:
                logs.tidy(path)

        self._tidying = self._pool.submit(tidy)

    def close(self) -> None:
        self._pump.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def write_rendered(service: Service, name: str, template: str, run: Path, lookup: Lookup) -> Path:
    """Render one file of a service into its run folder (mode 0600: it may hold secrets)."""
    source = service.folder / template
    text = with_appended(service, name, read_template(service, source))
    target = run / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(render(text, quoting(name, lookup), where=str(source)))
    return target


def read_template(service: Service, source: Path) -> str:
    """Return the text of a template of `service`."""
    try:
        return source.read_text()
    except FileNotFoundError:
        raise HeadwaterError(
            f"service `{service.name}` renders `{source.name}`, which does not exist",
            detail=f"looked for {source}",
        ) from None


def with_appended(service: Service, name: str, text: str) -> str:
    """Return a file's template with the lines that an encrypted stack appends to it."""
    more = service.append.get(name)
    return text if more is None else f"{text}\n{read_template(service, service.folder / more)}"


def check_templates(service: Service, lookup: Lookup) -> None:
    """Render all templates of a service and throw the result away, to find unknown variables."""
    where = f"{service.source} (service `{service.name}`)"
    words = [*service.command, *service.environment.values(), *service.urls.values()]
    for prepare in service.prepare:
        words += [*prepare.command, prepare.creates or ""]
    if service.ready is not None:
        ready = service.ready
        words += [ready.tcp or "", ready.http or "", *(ready.command or [])]
    if service.alive is not None:
        alive = service.alive
        addresses = (alive.kafka, alive.kafka_tls, alive.postgres, alive.thrift)
        words += [address or "" for address in addresses]
    for word in words:
        render(word, lookup, where=where)
    for template in [*service.files.values(), *service.append.values()]:
        source = service.folder / template
        render(read_template(service, source), lookup, where=str(source))
