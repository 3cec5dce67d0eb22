"""The parts of a service's description: preparation, probes, stopping, and its container."""

from __future__ import annotations

import signal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Command = Annotated[list[str], Field(min_length=1)]


class Closed(BaseModel):
    """Refuses keys that it does not have."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Prepare(Closed):
    """A command that runs to completion before each start, unless `creates` exists already."""

    command: Command
    creates: str | None = None
    timeout_s: float = Field(default=60, gt=0, le=3_600)


class Ready(Closed):
    """How a service shows that it can be used: exactly one of tcp, http, log, command."""

    tcp: str | None = None
    http: str | None = None
    status: list[int] | None = None  # with http: the accepted codes; any 2xx when None
    log: str | None = None
    command: Command | None = None
    timeout_s: float = Field(default=60, gt=0, le=3_600)

    @model_validator(mode="after")
    def _one_probe(self) -> Ready:
        given = [self.tcp, self.http, self.log, self.command]
        if sum(probe is not None for probe in given) != 1:
            raise ValueError("give exactly one of tcp, http, log, command")
        if self.status is not None and self.http is None:
            raise ValueError("status needs http")
        return self


class Alive(Closed):
    """An address `host:port` at which a service that runs must answer in its own protocol: the kernel
    accepts connections for a process that hangs. Without it, `ready`'s http or tcp probe is used again."""

    kafka: str | None = None
    kafka_tls: str | None = None
    postgres: str | None = None
    thrift: str | None = None

    @model_validator(mode="after")
    def _one_protocol(self) -> Alive:
        if [self.kafka, self.kafka_tls, self.postgres, self.thrift].count(None) != 3:
            raise ValueError("give exactly one of kafka, kafka_tls, postgres, thrift")
        return self


class Restart(Closed):
    """What follows when the process ends: back-off doubles from `backoff_s` to `backoff_max_s`."""

    policy: Literal["on-failure", "never"] = "on-failure"
    max_restarts: int = Field(default=10, ge=0, le=1_000)
    window_s: float = Field(default=600, gt=0)
    backoff_s: float = Field(default=1.0, ge=0)
    backoff_max_s: float = Field(default=30, ge=0)


class Stop(Closed):
    """The signal that asks a service to end, and how long it may take before SIGKILL.

    `at_once` is the signal if the data is deleted too (`down --wipe`), so that nothing needs to be saved.
    """

    signal: str = "SIGTERM"
    at_once: str = "SIGKILL"
    timeout_s: float = Field(default=20, gt=0, le=600)

    @field_validator("signal", "at_once")
    @classmethod
    def _known_signal(cls, value: str) -> str:
        if value not in signal.Signals.__members__:
            raise ValueError(f"unknown signal {value}")
        return value

    def number(self, *, at_once: bool) -> int:
        """Return the number of the signal to send."""
        return signal.Signals[self.at_once if at_once else self.signal].value


class Binary(Closed):
    """A program that the machine brings, or the service is left out of the stack.

    `get` says in one line how to install it; `home_variable` names an environment variable whose
    folder holds `bin/NAME`.
    """

    names: Annotated[list[str], Field(min_length=1)]
    get: str
    home_variable: str | None = None


class Python(Closed):
    """The newest Python that a service's packages run on, or the service is left out of the stack.

    `get` says in one line how to get the service.
    """

    newest: Annotated[str, Field(pattern=r"^3\.\d+$")]
    get: str


class Container(Closed):
    """Where an image keeps the files that templates name; docker-compose.yml names the image.

    `directories` and `classpaths` are by artefact group. Groups that are not named are in our own images, below
    `DIST`. If an image lacks our code, `${folder}` is a copy in the volume `config`, and the one-shot `config` runs
    the `prepare` commands that use `${python}`.
    """

    code: bool = True
    data: str = "/var/lib/headwater"
    directories: dict[str, str] = Field(default_factory=dict)
    classpaths: dict[str, str] = Field(default_factory=dict)
    # What the image has to run scripts with: bash, or only busybox's sh and wget.
    shell: Literal["bash", "busybox"] = "bash"
    binary: str | None = None  # the path of the program of `requires_binary` in the image
    # How many of a service that may run several times docker-compose.yml has.
    instances: int = 1


class Encrypted(Closed):
    """What differs if the stack is encrypted (`encryption` of the profile) or, as `signed`, if Trino asks
    for passwords (`access`).

    `append` names a rendered file and the template whose lines follow it, for formats in which the
    last line counts; `files`, `environment` and `alive` take the place of the description's own.
    """

    append: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    alive: Alive | None = None
