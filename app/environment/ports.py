"""The ports of a stack's services, and the addresses that reach them."""

from __future__ import annotations

import re

from app.environment.profile import Profile
from app.environment.stamp import ROOT
from app.environment.toml_files import SettingsError, description_files, read_toml

LOOPBACK = "127.0.0.1"
# The distance between the ports of a service's first and second instance.
INSTANCE_STEP = 200
INSTANCES_MAX = 9
_INSTANCE = re.compile(r"(.+)-([2-9])")


def instance_name(name: str, number: int) -> str:
    """The name of a service's, or a port's, instance: the first has the plain name."""
    return name if number == 1 else f"{name}-{number}"


def service_name(name: str, source: str) -> str:
    """The name of a service that works for one source: the first source's has the plain name."""
    return f"{name}-{source}" if source else name


def split_instance(name: str) -> tuple[str, int]:
    """The plain name and the number of an instance; see `instance_name`."""
    match = _INSTANCE.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 1)


class Ports:
    """The service ports of one stack, by the names that each `service.toml` gives them.

    A name that no service declares raises SettingsError.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._defaults: dict[str, int] = {}
        self._owners: dict[str, str] = {}

    def declare(self, defaults: dict[str, int]) -> None:
        """Take over the services' default ports (name → port without offset)."""
        self._defaults.update(defaults)

    def number(self, name: str) -> int:
        """Return the number of the service port `name`, on loopback."""
        if name in self._profile.ports:
            return self._profile.ports[name]
        if name not in self._defaults:
            self.declare({key: number for key, (_, number) in _declared().items()})
        plain, instance = split_instance(name)
        if name not in self._defaults and plain in self._defaults:
            self._defaults[name] = self._defaults[plain] + INSTANCE_STEP * (instance - 1)
        if name not in self._defaults:
            raise SettingsError(f"no service declares a port named `{name}`")
        return self._defaults[name] + self._profile.port_offset

    def numbers(self) -> dict[str, int]:
        """Port name → number, of all services."""
        return {name: self.number(name) for name in _declared()}

    @property
    def bind(self) -> str:
        """The address that services listen on."""
        return "0.0.0.0" if self._profile.in_containers else LOOPBACK

    @property
    def peers(self) -> str:
        """The addresses that may connect to a Postgres of the stack, as pg_hba.conf writes them."""
        return "samenet" if self._profile.in_containers else f"{LOOPBACK}/32"

    def host(self, name: str) -> str:
        """Return the host at which other services reach service port `name`."""
        if not self._profile.in_containers:
            return LOOPBACK
        if not self._owners:
            self._owners = {port: owner for port, (owner, _) in _declared().items()}
        plain, instance = split_instance(name)
        if plain not in self._owners:
            raise SettingsError(f"no service declares a port named `{name}`")
        return instance_name(self._owners[plain], instance)

    def address(self, name: str) -> str:
        """`host:port` at which other services reach service port `name`."""
        return f"{self.host(name)}:{self.number(name)}"

    def addresses(self, name: str, instances: int) -> str:
        """The addresses of service port `name` in all instances of its service, with commas."""
        numbers = range(1, instances + 1)
        return ",".join(self.address(instance_name(name, number)) for number in numbers)

    def published(self, name: str) -> int:
        """The port of this machine, on loopback, at which people reach service port `name`."""
        return self._profile.published_ports.get(name) or self.number(name)

    def published_url(self, name: str) -> str:
        """The address of service port `name` for users on this machine."""
        return f"http://{LOOPBACK}:{self.published(name)}"


def _declared() -> dict[str, tuple[str, int]]:
    """Port name → the service that listens there, and the port's default number."""
    ports: dict[str, tuple[str, int]] = {}
    for path in description_files(ROOT):
        for name, service in read_toml(path).get("services", {}).items():
            ports.update(
                {port: (name, number) for port, number in service.get("ports", {}).items()}
            )
    return ports
