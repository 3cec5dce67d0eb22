"""Renders every service for its container: `python -m app.containers.container_config`.

The compose stack's one-shot `config` runs it with the home of the whole stack (`HEADWATER_HOME`), and
with the volume of each service mounted below `run/`. What it writes there:

    start       prepares and becomes the service, by the command of its service.toml
    healthy     exits 0 when the service can be used, by the `ready` of its service.toml
    …           the service's own configuration files
    settings.toml, service_secrets.json
                the home of a service of our own, with no secrets but those that it declares

So images are used for their content; how a service runs is written only in service.toml.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from app.artefacts.dist import Artefacts
from app.containers.service_home import write_service_home
from app.environment.profile import Profile
from app.environment.settings import ROOT, Settings, checked, load
from app.errors import HeadwaterError
from app.launcher.control import Stack
from app.launcher.host import read_template
from app.launcher.readiness_probe import authorization
from app.launcher.start_checks import source_address
from app.services.described import services_of
from app.services.description_parts import Container, Prepare, Ready
from app.services.service import Service, Services, declared_ports, load_services
from app.services.templates import Lookup, Places, Variables, render, variables

DIST = PurePosixPath("/opt/headwater/dist")
SCRATCH = Path("/tmp/headwater")  # the container's own; emptied at each start
READY_FILE = SCRATCH / "ready"
START, HEALTHY = "start", "healthy"
TARGETS = "targets.json"  # the targets at which Prometheus scrapes a service
BENEATH = Path("/var/lib/headwater")
SHARED = ("contracts", "verify")  # folders of the home that are volumes of their own
READABLE, RUNNABLE = 0o644, 0o755
NATIVE_ONLY = (
    "log-sender",  # it reads log files, and Docker keeps the output of containers
    "audit-topic", "mlflow", "notebooks",  # not in compose yet
)  # fmt: skip


@dataclass(frozen=True)
class InContainer(Places):
    """The folders of a service in its container: the files of `config`, and its volume."""

    @property
    def tmp(self) -> Path:
        return SCRATCH


@dataclass(frozen=True)
class ImageArtefacts:
    """The paths of artefact groups in a service's image."""

    container: Container
    locked: Artefacts

    def classpath(self, group: str) -> list[Path]:
        if group in self.container.classpaths:
            return [Path(self.container.classpaths[group])]
        jars = [file.coordinate.filename for file in self.locked.files(group)]
        # The JVM expands `folder/*` to all the jars of the folder; an agent is one jar, by name.
        return [Path(DIST / group / (jars[0] if len(jars) == 1 else "*"))]

    def directory(self, group: str) -> Path:
        return Path(self.container.directories.get(group, str(DIST / group)))

    def java(self) -> Path:
        return Path("java")


def render_all(settings: Settings, root: Path = ROOT) -> list[str]:
    """Write the folders of all services below the settings' home.

    Services that the settings leave out get a `start` that idles (or ends, for a one-shot).
    Returns: the names of the other services.
    """
    stack = Stack(settings, root)
    # Programs that a machine may lack are in their images.
    enabled = {**stack.services, **stack.unavailable}
    locked = Artefacts(root)
    staying = lingering(stack.described)
    for service in stack.described.values():
        places = InContainer(stack.home.run(service.name), Path(service.container.data))
        folder = service.folder
        if not service.container.code and _uses_its_folder(service):
            folder = places.run / "folder"
            shutil.copytree(
                service.folder, folder, dirs_exist_ok=True, copy_function=shutil.copyfile
            )
        lookup = Variables(
            settings=settings,
            artefacts=ImageArtefacts(service.container, locked),
            ports=stack.ports,
            places=places,
            service=service,
            folder=folder,
            root=root,
            python=Path("python"),
            binary=lambda path=service.container.binary: Path(path) if path else None,  # type: ignore[misc]
        )
        files = {
            START: _left_out(service, stays=service.name in staying),
            HEALTHY: "#!/bin/sh\nexit 0\n",
        }
        if service.name in enabled:
            _prepare_here(service, settings, lookup)
            if service.container.code:
                write_service_home(settings, places.run, service.secrets, _named_secrets(service))
            files = {
                START: start_script(service, settings, lookup, stays=service.name in staying),
                HEALTHY: healthy_script(service, lookup),
            }
        for name, template in service.files.items():
            source = service.folder / template
            files[name] = render(read_template(service, source), lookup, where=str(source))
        for name, text in files.items():
            _write(places.run / name, text, RUNNABLE if name in (START, HEALTHY) else READABLE)
    _copy_targets(stack.home.run("prometheus"))
    _write(stack.home.run("readers") / START, readers_script(settings), RUNNABLE)
    return [name for name in stack.described if name in enabled]


def _copy_targets(prometheus: Path) -> None:
    """Copy each service's `targets.json` to a folder that the container of Prometheus can read."""
    for path in prometheus.parent.glob(f"*/{TARGETS}"):
        _write(prometheus / "targets" / f"{path.parent.name}.json", path.read_text(), READABLE)


def _variables(service: Service) -> set[str]:
    files = [read_template(service, service.folder / name) for name in service.files.values()]
    steps = [word for step in service.prepare for word in step.command]
    templates = [*service.command, *service.environment.values(), *steps, *files]
    return {name for template in templates for name in variables(template)}


def _uses_its_folder(service: Service) -> bool:
    return "folder" in _variables(service)


def _named_secrets(service: Service) -> set[str]:
    return {n.removeprefix("secret.") for n in _variables(service) if n.startswith("secret.")}


def _prepared_here(service: Service, step: Prepare) -> bool:
    return not service.container.code and step.command[0] == "${python}"


def _prepare_here(service: Service, settings: Settings, lookup: Lookup) -> None:
    """Run the prepare steps that need our code, which the service's image does not have."""
    where = f"{service.source} (service `{service.name}`)"
    for step in service.prepare:
        if not _prepared_here(service, step):
            continue
        Path(lookup("run")).mkdir(parents=True, exist_ok=True)
        words = [render(word, lookup, where=where) for word in step.command]
        environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            [sys.executable, *words[1:]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=step.timeout_s,
        )
        if ended.returncode != 0:
            raise HeadwaterError(
                f"service `{service.name}` could not be prepared", detail=ended.stderr.strip()
            )
    for path in Path(lookup("run")).rglob("*") if not service.container.code else ():
        # Written for the user of `config` alone; the service is another.
        path.chmod(RUNNABLE if path.is_dir() else READABLE)


def lingering(services: Services) -> set[str]:
    """Return the one-shots that no service waits for.

    `docker compose up --wait` takes the end of such a container for a failure, so it sleeps when its
    work is done.
    """
    awaited = {
        need
        for service in services.values()
        for need, condition in service.depends_on.items()
        if condition == "completed"
    }
    return {s.name for s in services.values() if s.kind == "oneshot" and s.name not in awaited}


def start_script(
    service: Service, settings: Settings, lookup: Lookup, *, stays: bool = False
) -> str:
    """The shell script that prepares a service and then becomes it.

    Args:
        stays: whether a one-shot sleeps, healthy, when its work is done.
    """
    where = f"{service.source} (service `{service.name}`)"

    def words(command: list[str]) -> str:
        return " ".join(shlex.quote(render(word, lookup, where=where)) for word in command)

    own = {k: render(v, lookup, where=where) for k, v in service.environment.items()}
    fixed = {
        "HOME": str(SCRATCH),
        "TMPDIR": str(SCRATCH),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "HEADWATER_SERVICE": service.name,
    }
    watched = service.ready is not None and service.ready.log is not None
    lines = [f"#!/bin/{'bash' if watched else 'sh'}", _WRITTEN, "set -eu"]
    home = {"HEADWATER_HOME": lookup("run")} if service.container.code else {}
    for name, value in {
        **fixed,
        **settings.environment(service.secrets),
        **home,
        **own,
    }.items():
        lines.append(f"export {name}={shlex.quote(value)}")
    # Not every image has its Java on the path.
    lines.append('[ -z "${JAVA_HOME:-}" ] || export PATH="$JAVA_HOME/bin:$PATH"')
    lines += [f"rm -rf {SCRATCH}", f"mkdir -p {SCRATCH}", f"cd {SCRATCH}"]
    for prepare in service.prepare:
        if _prepared_here(service, prepare):
            continue
        step = words(prepare.command)
        if prepare.creates:
            made = shlex.quote(render(prepare.creates, lookup, where=where))
            step = f"[ -e {made} ] || {step}"
        lines.append(step)
    command = f"exec {words(service.command)}"
    if stays:
        command = f"{words(service.command)}\n: > {READY_FILE}\nexec sleep infinity"
    if watched and service.ready is not None:
        lines += [_WATCH.format(pattern=shlex.quote(service.ready.log or ""), ready=READY_FILE)]
        command += " > >(watch) 2> >(watch >&2)"
    return "\n".join([*lines, command, ""])


def readers_script(settings: Settings) -> str:
    """The shell script that sets a reader's variables, and then runs the command that follows it."""
    variables = {
        **settings.store.variables(),
        "HEADWATER_INTAKE_URL": settings.intake_url,
        "HEADWATER_INTAKE_TOKEN": settings.secret("intake_token"),
    }
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join(["#!/bin/sh", _WRITTEN_FOR_READERS, *exports, 'exec "$@"', ""])


def healthy_script(service: Service, lookup: Lookup) -> str:
    """The script of a container's health check, from the service's `ready` (run inside)."""
    where = f"{service.source} (ready of service `{service.name}`)"
    ready = service.ready or Ready(command=["test", "-e", str(READY_FILE)])
    if ready.http is not None and service.container.shell == "busybox":
        url = shlex.quote(render(ready.http, lookup, where=where))
        return f"#!/bin/sh\n{_WRITTEN}\nexec wget -q -T 3 -O /dev/null {url}\n"
    lines = ["#!/bin/bash", _WRITTEN, "set -eu"]
    if ready.tcp is not None:
        lines.append(_connect(render(ready.tcp, lookup, where=where)))
    elif ready.http is not None:
        parts = urlsplit(render(ready.http, lookup, where=where))
        accepted = "|".join(map(str, ready.status or [])) or "2??"
        address = f"{parts.hostname}:{parts.port}"
        # The page answers only to its own names, so it is named here.
        headers = {"Host": address, **authorization(parts)}
        request = [f"GET {parts.path or '/'} HTTP/1.0", *(f"{k}: {v}" for k, v in headers.items())]
        lines += [
            _connect(address),
            f"printf '%s\\r\\n' {shlex.join([*request, ''])} >&3",
            "read -r -t 3 _ status _ <&3",
            f'case $status in {accepted}) ;; *) echo "status $status"; exit 1 ;; esac',
        ]
    elif ready.log is not None:
        lines.append(f"[ -e {READY_FILE} ]")
        # The line was written once; the port is probed each time.
        ports = [lookup(f"port.{name}") for name in service.ports]
        lines += [_connect(f"127.0.0.1:{port}") for port in ports[:1]]
    else:
        lines.append(
            " ".join(shlex.quote(render(w, lookup, where=where)) for w in ready.command or [])
        )
    return "\n".join([*lines, ""])


_WRITTEN_FOR_READERS = "# Written by the service `config` for the readers of silver."
_WRITTEN = "# Written by the service `config` from this service's service.toml."
_WATCH = """\
watch() {{
  local line pattern={pattern}
  while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\\n' "$line"
    [[ $line =~ $pattern ]] && : > {ready}
  done
}}"""


def _connect(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"exec 3<>/dev/tcp/{host}/{port}"


def _left_out(service: Service, *, stays: bool) -> str:
    says = f"echo 'left out: this stack has its own in place of `{service.name}`' >&2"
    ends = "exit 0" if service.kind == "oneshot" and not stays else "exec sleep infinity"
    return f"#!/bin/sh\n{_WRITTEN}\n{says}\n{ends}\n"


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file at once: a container may be starting from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    # The services run as users of their own images.
    Path(temporary).chmod(mode)
    os.replace(temporary, path)


def settings_from_environment(home: Path) -> Settings:
    """The containers' settings: those that compose passes as HEADWATER_*; empty means the default.

    Raises: HeadwaterError if the home holds the data of another source.
    """
    # Compose's profiles decide whether Superset exists.
    given: dict[str, object] = {"network": "containers", "dashboards": True}
    ports = declared_ports(load_services(ROOT))
    variables = {name: os.environ.get(f"HEADWATER_PORT_{name.upper()}") for name in ports}
    given["published_ports"] = {name: value for name, value in variables.items() if value}
    for name in Profile.container_keys():
        if value := os.environ.get(f"HEADWATER_{name.upper()}"):
            given[name] = value
    # Not by `load`, which would keep settings that the environment file no longer has.
    settings = checked(home, given, origin="the environment file")
    for service in services_of(ROOT, settings.profile).values():
        if service.instance > service.container.instances:
            raise HeadwaterError(
                f"{service.instances} is {settings.profile.value(service.instances or '')}",
                detail=f"docker-compose.yml has {service.container.instances} of `{service.described_as}`",
                hint="set fewer, or add services of that kind in an override file",
            )
    if (home / "settings.toml").exists():
        before, now = source_address(load(home)), source_address(settings)
        if before != now:
            raise HeadwaterError(
                "this stack's volumes hold the data of another source",
                detail=f"they hold {before}, and are to capture {now}",
                hint="remove them: `docker compose down --volumes`, or use another project name",
            )
    return settings


def move_to_volumes(home: Path, beneath: Path = BENEATH) -> None:
    """Move contract files and the verification's state, which earlier versions kept in the volume `config`.

    Args:
        beneath: that volume, without the volumes that are mounted in `home`.
    """
    kept = beneath / "secrets.json"
    if not kept.exists() or not kept.samefile(home / "secrets.json"):
        return
    for name in SHARED:
        for path in (beneath / name).glob("*"):
            if not (home / name / path.name).exists():
                shutil.move(path, home / name / path.name)


def main() -> int:
    """Render everything for the containers; the exit code is 0 when it is whole."""
    home = Path(os.environ["HEADWATER_HOME"])
    try:
        settings = settings_from_environment(home)
        settings.environment()  # makes the secrets
        settings.save()
        move_to_volumes(home)
        names = render_all(settings)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"configuration is written for {', '.join(names)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
