"""Closed templates: `${name}` in service descriptions and in the files that they render.

Names: `home run data tmp folder root java python`, `aot` (a file of JVM options: see
`app/launcher/aot.py`), `binary` (the program of `requires_binary`), `bind` (the address to listen on),
`peers` (which addresses may connect, for pg_hba.conf), `service` and `instance` (its name, and its number if there
are several), `port.NAME`, `host.NAME` (the host of port NAME for other services), `addresses.NAME` (of port
NAME in every instance, with commas; `targets.NAME`: as a list; `voters.NAME`: each with its number), `secret.NAME`, `setting.NAME`,
`http` (`https` if the stack is encrypted), `tls.NAME` (a file of its key pair, or the authority),
`kafka.worker` (a Connect worker's lines about its log-in; `kafka.client`: those of any Java client), `store.lake` (the lake's address), `store.trino` and
`metastore.trino` (a catalog's lines about them), `trino.scheme` (of Trino's URL), `trino.ACCOUNT` (the account's
password, empty if Trino needs none), `trino.audit_log_in` (the text before the host for the audit's account),
`classpath.GROUP`, `dir.GROUP`.
In an instance the ports of its own service are its own. `$${` is a literal `${`. An unknown name is an error.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.environment.encryption.pair_files import PAIR
from app.environment.loopback import CA, TRUSTED_STORE, TRUSTSTORE
from app.environment.ports import INSTANCES_MAX, instance_name
from app.environment.settings import Settings
from app.environment.toml_files import SettingsError
from app.environment.trino_accounts import ACCOUNTS, AUDIT, password_name
from app.errors import HeadwaterError
from app.services.service import Service
from spark_streaming.storage.store_clients import trino_properties

VARIABLE = re.compile(r"\$(\$\{)|\$\{([^}\n]*)\}")

Lookup = Callable[[str], str]


class UnknownVariable(Exception):
    """A lookup does not know this name."""


class ArtefactPaths(Protocol):
    """The paths of fetched artefacts, as templates need them."""

    def classpath(self, group: str) -> list[Path]: ...

    def directory(self, group: str) -> Path: ...

    def java(self) -> Path: ...


@dataclass(frozen=True)
class Places:
    """The folders of one service: rendered files and logs, and persistent data."""

    run: Path
    data: Path

    @property
    def tmp(self) -> Path:
        """For temporary files; emptied at each start, so that a killed process leaves none."""
        return self.run / "tmp"


def render(text: str, lookup: Lookup, *, where: str) -> str:
    """Replace every variable of `text`.

    Args:
        lookup: name → value; raises UnknownVariable. where: file and key for the error.
    Raises: HeadwaterError naming the variable and `where`.
    """

    def value(match: re.Match[str]) -> str:
        if match.group(1):
            return "${"
        try:
            return lookup(match.group(2))
        except UnknownVariable as error:
            raise HeadwaterError(
                f"unknown variable `${{{match.group(2)}}}` in {where}",
                detail=str(error),
                hint="a literal `${` is written `$${`",
            ) from None

    return VARIABLE.sub(value, text)


def variables(text: str) -> list[str]:
    """Return the names of the variables in `text`, in order."""
    return [match.group(2) for match in VARIABLE.finditer(text) if match.group(2) is not None]


@dataclass(frozen=True, kw_only=True)
class Variables:
    """The variables of one service: called with a name, it returns the value.

    Args:
        ports: every described port name (`settings` has its value). relocate: maps the folder of an artefact group to
        one that the service's user can read.
        aot: the file of JVM options that concern its AOT cache.
        binary: the program of the service's `requires_binary`; None if it has none.
    """

    settings: Settings
    artefacts: ArtefactPaths
    ports: Mapping[str, int]
    places: Places
    service: Service
    folder: Path
    root: Path
    python: Path
    relocate: Callable[[Path], Path] = lambda path: path
    aot: Path = Path(os.devnull)
    binary: Callable[[], Path | None] = lambda: None

    def __call__(self, name: str) -> str:
        plain, spaces = self._plain(), self._spaces()
        if name in plain:
            return str(plain[name]())
        space, dot, rest = name.partition(".")
        if dot and rest and space in spaces:
            return str(spaces[space](rest))
        known = [*plain, *(f"{space}.NAME" for space in spaces)]
        raise UnknownVariable(f"known are {', '.join(known)}")

    def _plain(self) -> dict[str, Callable[[], object]]:
        return {
            "home": lambda: self.settings.home,
            "run": lambda: self.places.run,
            "data": lambda: self.places.data,
            "tmp": lambda: self.places.tmp,
            "service": lambda: self.service.name,
            "instance": lambda: self.service.instance,
            "folder": lambda: self.folder,
            "root": lambda: self.root,
            "python": lambda: self.python,
            "java": self.artefacts.java,
            "aot": lambda: self.aot,
            "bind": lambda: self.settings.ports.bind,
            "http": lambda: self.settings.http,
            "peers": lambda: self.settings.ports.peers,
            "binary": self._program,
        }

    def _spaces(self) -> dict[str, Callable[[str], object]]:
        return {
            "port": lambda port: self.settings.ports.number(self._known(port)),
            "host": lambda port: self.settings.ports.host(self._known(port)),
            "addresses": lambda port: ",".join(self._addresses(port)),
            "targets": lambda port: json.dumps(self._addresses(port)),
            "voters": lambda port: ",".join(
                f"{number}@{one}" for number, one in enumerate(self._addresses(port), 1)
            ),
            "secret": self.settings.secret,
            "setting": self._setting,
            "kafka": self._kafka,
            "tls": self._tls,
            "store": self._store,
            "metastore": self._metastore,
            "trino": self._trino,
            "classpath": lambda group: os.pathsep.join(map(str, self.artefacts.classpath(group))),
            "dir": lambda group: self.relocate(self.artefacts.directory(group)),
        }

    def _known(self, port: str) -> str:
        if port not in self.ports:
            raise UnknownVariable(f"no service declares a port `{port}`")
        own = instance_name(port, self.service.instance)
        return own if own in self.service.ports else port

    def _addresses(self, port: str) -> list[str]:
        """Return where port `port` is reached in each instance of its service."""
        names = (instance_name(port, number) for number in range(1, INSTANCES_MAX + 1))
        found = [name for name in names if name in self.ports] or [self._known(port)]
        return [self.settings.ports.address(name) for name in found]

    def _program(self) -> object:
        found = self.binary()
        if found is None:
            raise UnknownVariable("the service has no `requires_binary`, or it is not installed")
        return found

    def _setting(self, name: str) -> object:
        try:
            return self.settings.profile.value(name)
        except SettingsError as error:
            raise UnknownVariable(str(error)) from error

    def _kafka(self, name: str) -> object:
        if name == "bootstrap":
            return self.settings.kafka.addresses
        if name == "worker":
            return self.settings.kafka.worker_properties()
        if name == "client":
            return "\n".join(f"{k}={v}" for k, v in self.settings.kafka.log_in().items())
        raise UnknownVariable("known of Kafka are kafka.bootstrap, kafka.worker, kafka.client")

    def _tls(self, name: str) -> object:
        if name == "ca":
            return self.settings.tls / CA
        if name == "truststore":
            return self.settings.tls / TRUSTSTORE
        if name == "trusted_store":
            return self.settings.tls / TRUSTED_STORE
        if name in PAIR:
            return self.places.run / "tls" / PAIR[name]
        raise UnknownVariable(
            f"known of TLS are tls.ca, tls.truststore, tls.trusted_store, {', '.join(f'tls.{one}' for one in PAIR)}"
        )

    def _store(self, name: str) -> object:
        if name == "lake":
            return self.settings.store.url(self.settings.store.lake_bucket, "")
        if name == "trino":
            return trino_properties()
        raise UnknownVariable("known of the store are store.lake, store.trino")

    def _trino(self, name: str) -> object:
        if name == "scheme":
            return self.settings.trino_http
        if name == "audit_log_in":
            return f"{AUDIT}:{self._trino(AUDIT)}@" if self.settings.profile.signed else ""
        if name not in ACCOUNTS:
            raise UnknownVariable(
                f"known of Trino are trino.scheme, trino.audit_log_in, trino.{', trino.'.join(ACCOUNTS)}"
            )
        return self.settings.secret(password_name(name)) if self.settings.profile.signed else ""

    def _metastore(self, name: str) -> object:
        if name != "trino":
            raise UnknownVariable("known of the metastore is metastore.trino")
        settings = self.settings
        return settings.profile.metastore_properties(
            settings.ports.address("metastore"), str(self._store("lake"))
        )
