"""Service descriptions: every folder's `service.toml`, in compose's vocabulary, typed and closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli
from pydantic import Field, ValidationError, field_validator, model_validator

from app.environment.ports import split_instance
from app.environment.profile import Profile
from app.environment.toml_files import DESCRIPTION_FILE, description_files
from app.errors import HeadwaterError
from app.services.description_parts import (
    Alive,
    Binary,
    Closed,
    Command,
    Container,
    Encrypted,
    Prepare,
    Python,
    Ready,
    Restart,
    Stop,
)

ONESHOT_RESTARTS_MAX = 2  # a one-shot that fails three times needs a person

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
PortNumber = Annotated[int, Field(ge=1, le=65_535)]
Condition = Literal["healthy", "completed", "started"]
# See secret_variables.
Secret = Literal[
    "source", "store", "capture", "kafka", "connect", "trino", "openlineage", "object-store", "mask",
    "superset-admin", "serving",
]  # fmt: skip


class Service(Closed):
    """One service, as its folder describes it; strings are templates (see `render`).

    `kind` oneshot must exit 0 within `timeout_s` and then counts as completed. `default` false: it runs only if `up
    --only` names it, or if the setting in `default_when` is set. `awaited` false: `up` does not wait for it unless it
    is
    named, and is not failed by it. `instances` names the setting that says how often it runs, and
    `instance` is its number (see `instances.py`). `per_source`: it runs once for each source, and `works_for` is
    the further source that this one is for. `secrets` names the secrets that it gets, in its
    environment and in its container's home; it gets no others.
    """

    name: Name
    folder: Path
    description: str
    kind: Literal["service", "oneshot"] = "service"
    awaited: bool = True
    when: str | None = None
    instances: str | None = None
    instance: int = 1
    per_source: bool = False
    works_for: str = ""
    default: bool = True
    default_when: str | None = None
    requires_binary: Binary | None = None
    requires_python: Python | None = None
    artefacts: list[str] = Field(default_factory=list)
    command: Command
    environment: dict[str, str] = Field(default_factory=dict)
    secrets: list[Secret] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict)
    depends_on: dict[str, Condition] = Field(default_factory=dict)
    ports: dict[str, PortNumber] = Field(default_factory=dict)
    urls: dict[str, str] = Field(default_factory=dict)
    unprivileged: bool = False
    pid_files: list[str] = Field(default_factory=list)  # the server's own; see `leftovers`
    memory_mb: int = Field(default=0, ge=0)
    timeout_s: float = Field(default=300, gt=0, le=86_400)
    prepare: list[Prepare] = Field(default_factory=list)
    ready: Ready | None = None
    alive: Alive | None = None
    encrypted: Encrypted = Field(default_factory=Encrypted)
    signed: Encrypted | None = None  # with its own key pair, if it listens
    append: dict[str, str] = Field(default_factory=dict)
    container: Container = Field(default_factory=Container)
    restart: Restart = Field(default_factory=Restart)
    stop: Stop = Field(default_factory=Stop)

    @field_validator("files")
    @classmethod
    def _plain_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in [*value, *value.values()]:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"`{name}` must be inside its folder")
        return value

    @model_validator(mode="before")
    @classmethod
    def _oneshot_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("kind") == "oneshot":
            restart = {"max_restarts": ONESHOT_RESTARTS_MAX, **value.get("restart", {})}
            return {**value, "restart": restart}
        return value

    @model_validator(mode="after")
    def _oneshot_has_no_probe(self) -> Service:
        if self.kind == "oneshot" and self.ready is not None:
            raise ValueError("a oneshot is ready when it exits 0: leave `ready` out")
        return self

    @property
    def source(self) -> Path:
        """The file that this description was read from."""
        return self.folder / DESCRIPTION_FILE

    @property
    def described_as(self) -> str:
        """The name in that file; further instances have a number or a source's name behind it."""
        if self.works_for:
            return self.name.removesuffix(f"-{self.works_for}")
        return split_instance(self.name)[0] if self.instance > 1 else self.name


Services = Mapping[str, Service]


def load_services(root: Path) -> dict[str, Service]:
    """Read every `service.toml` of the clone.

    Returns: name → service, in dependency order (a dependency comes before its dependents).
    Raises: HeadwaterError for an unknown key, a wrong value, a repeated service or port name,
        or a cycle; each names its file.
    """
    found: dict[str, Service] = {}
    for path in description_files(root):
        for service in read_services(path):
            if service.name in found:
                raise HeadwaterError(
                    f"service `{service.name}` is described twice",
                    detail=f"in {found[service.name].source} and in {path}",
                )
            found[service.name] = service
    _check_ports(found)
    return {name: found[name] for name in dependency_order(found)}


def is_enabled(service: Service, profile: Profile) -> bool:
    """Whether the profile leaves a service in, by its `when` and the number of its instances."""
    of_a_source = bool(service.works_for)  # there is one for each source, whatever its number
    if (
        service.instances is not None
        and not of_a_source
        and int(profile.value(service.instances)) < service.instance
    ):
        return False
    return service.when is None or _holds(service.when, profile)


def as_chosen(service: Service, profile: Profile) -> Service:
    """Return a service with its `default` as the profile decides it."""
    when = service.default_when
    chosen = when is not None and _holds(when, profile)
    return service.model_copy(update={"default": True}) if chosen else service


def _holds(when: str, profile: Profile) -> bool:
    return profile.flag(when.removeprefix("!")) is not when.startswith("!")


def why_left_out(service: Service, profile: Profile) -> str:
    """Return the missing requirement of a disabled service (see `is_enabled`)."""
    if service.when is not None and not _holds(service.when, profile):
        return f"it runs when `{service.when}` holds"
    return f"it runs where `{service.instances}` is at least {service.instance}"


def read_services(path: Path) -> list[Service]:
    """Read the services of one `service.toml`, in the file's order."""
    try:
        content = tomli.loads(path.read_text())
    except tomli.TOMLDecodeError as error:
        raise HeadwaterError(f"{path} is not TOML", detail=str(error)) from error
    unknown = sorted(set(content) - {"services"})
    if unknown:
        raise HeadwaterError(
            f"unknown key `{unknown[0]}` in {path}",
            hint="services are declared under [services.NAME]",
        )
    bodies = content.get("services", {})
    return [_read_service(path, name, _like(path, name, bodies)) for name in bodies]


def _like(path: Path, name: str, bodies: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the body of a service; with `like = "NAME"` it takes missing keys from that service."""
    body = dict(bodies[name])
    other = body.pop("like", None)
    if other is None:
        return body
    if other not in bodies or "like" in bodies[other]:
        raise HeadwaterError(
            f"service `{name}` is like `{other}`, which {path} does not describe in full"
        )
    return {**bodies[other], **body}


def _read_service(path: Path, name: str, body: dict[str, Any]) -> Service:
    try:
        given = {"name": name, "folder": path.parent, "instance": 1}
        return Service.model_validate({**body, **given})
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            key = ".".join(["services", name, *(str(part) for part in problem["loc"])])
            unknown = problem["type"] == "extra_forbidden"
            lines.append(f"unknown key `{key}`" if unknown else f"`{key}`: {problem['msg']}")
        raise HeadwaterError(
            f"service `{name}` has an invalid description in {path}", detail="\n".join(lines)
        ) from None


def _check_ports(services: Services) -> None:
    owners: dict[str, str] = {}
    numbers: dict[int, str] = {}
    for service in services.values():
        for port, number in service.ports.items():
            if port in owners:
                raise HeadwaterError(
                    f"port name `{port}` is used by `{owners[port]}` and by `{service.name}`",
                    detail=f"in {service.source}",
                )
            if number in numbers:
                raise HeadwaterError(
                    f"port {number} is both `{numbers[number]}` and `{port}`",
                    detail=f"in {service.source}",
                )
            owners[port] = service.name
            numbers[number] = port


def declared_ports(services: Services) -> dict[str, int]:
    """Return port name → default number, of all services."""
    return {name: port for each in services.values() for name, port in each.ports.items()}


def dependency_order(services: Services) -> list[str]:
    """Return the names, each after its dependencies; otherwise in the given order.

    Dependencies that are not among `services` are ignored. Raises: HeadwaterError for a
    cycle, which it spells out.
    """
    order: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in path:
            cycle = " → ".join([*path[path.index(name) :], name])
            raise HeadwaterError(
                "services depend on each other in a circle",
                detail=cycle,
                hint="remove one `depends_on` of the circle",
            )
        path.append(name)
        for needed in services[name].depends_on:
            if needed in services:
                visit(needed)
        path.pop()
        order.append(name)

    for name in services:
        visit(name)
    return order


# What makes a service one of the dashboards' (`when`).
_DASHBOARDS = ("dashboards", "superset_here")


def dashboard_services(services: Services) -> list[str]:
    """Return the services that run for `up --dashboards`."""
    return [name for name, service in services.items() if service.when in _DASHBOARDS]


def job_services(services: Services) -> list[str]:
    """Return the services that run for `up --jobs`."""
    return [name for name, service in services.items() if service.when == "jobs"]


def with_dependencies(services: Services, names: Iterable[str]) -> list[str]:
    """Return the named services and all that they depend on, in dependency order.

    Raises: HeadwaterError for a name, or a dependency, that no folder describes.
    """
    wanted: set[str] = set()
    queue = [(name, "") for name in names]
    while queue:
        name, dependent = queue.pop()
        if name not in services:
            raise HeadwaterError(
                f"there is no service `{name}`",
                detail=f"`{dependent}` depends on it" if dependent else "",
                hint=f"known are {', '.join(services)}",
            )
        if name not in wanted:
            wanted.add(name)
            queue.extend((needed, name) for needed in services[name].depends_on)
    return [name for name in dependency_order(services) if name in wanted]
