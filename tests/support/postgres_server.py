"""Postgres servers of any locked version, started beside a stack as a user's source."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from app.artefacts.dist import Artefacts
from app.processes.identity import Shelter, unprivileged_identity
from tests.support.stack import ROOT
from tests.support.waiting import until

STARTED_S = 120.0
STOPPED_S = 60.0
DATABASE = "yours"


@dataclass(frozen=True)
class Programs:
    """Postgres' programs, and their user.

    Args:
        folder: of `postgres` and `initdb`.
        home: the folder of clusters.
        user: arguments for `subprocess`; empty for the caller's own user.
    """

    folder: Path
    home: Path
    user: dict[str, Any]


@dataclass
class Server:
    """A cluster in `programs.home`, and its server while it runs."""

    programs: Programs
    name: str
    password: str
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def cluster(self) -> Path:
        """The data directory."""
        return self.programs.home / self.name

    def dsn(self, database: str = "postgres") -> str:
        """The address of a database, as the superuser."""
        return f"postgresql://owner:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start on `port`, and wait for the first answer."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
            "wal_level": "logical", "max_connections": 60, "shared_buffers": "64MB", "jit": "off",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(self.programs.home / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs.folder / "postgres"), "-D", str(self.cluster), *options],
                stdout=log, stderr=log, cwd="/", **self.programs.user,
            )  # fmt: skip
        until(self._answers, within_s=STARTED_S, what=f"the first answer of {self.name}")

    def stop(self) -> None:
        """Stop the server like `pg_ctl stop -m fast`; does nothing if it does not run."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOPPED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOPPED_S)

    def standby(self, name: str) -> Server:
        """Start a new standby of this server, which keeps running."""
        other = Server(self.programs, name, self.password, free_port())
        with psycopg.connect(self.dsn(), autocommit=True) as source:
            source.execute("SELECT pg_backup_start('standby', true)")
            # Files may change or vanish during `cp`; replaying the log corrects that.
            subprocess.run(
                ["cp", "-a", self.cluster, other.cluster], check=False, timeout=STARTED_S
            )
            row = source.execute("SELECT labelfile FROM pg_backup_stop(false)").fetchone()
            assert row is not None
        (other.cluster / "postmaster.pid").unlink(missing_ok=True)
        for slot in (other.cluster / "pg_replslot").iterdir():  # which a backup does not include
            shutil.rmtree(slot)
        follow = (
            f"primary_conninfo = 'host=127.0.0.1 port={self.port} user=owner "
            f"password={self.password}'\n"
        )
        with open(other.cluster / "postgresql.auto.conf", "a") as settings:
            settings.write(follow)
        for file, text in (("backup_label", row[0]), ("standby.signal", "")):
            (other.cluster / file).write_text(text)
            own = self.programs.user
            if own:
                os.chown(other.cluster / file, own["user"], own["group"])
        other.start()
        return other

    def _answers(self) -> bool:
        """Whether the server accepts a connection; raises the server's error if not."""
        with psycopg.connect(self.dsn(), connect_timeout=5):
            return True


@contextmanager
def postgres_programs(version: int) -> Iterator[Programs]:
    """The programs of a locked version, in a separate folder that is removed at the end."""
    group = "postgres" if version == 15 else f"postgres-{version}"
    artefacts = Artefacts(ROOT)
    artefacts.prepare([group])
    home = Path(tempfile.mkdtemp(prefix="headwater-test-postgres-"))
    home.chmod(0o755)
    folder, user, shelter = artefacts.directory(group), dict[str, Any](), None
    if os.geteuid() == 0:  # the server refuses to run as root
        shelter = Shelter(home, unprivileged_identity())
        folder = shelter.copy(folder)
        identity = shelter.identity
        user = {"user": identity.uid, "group": identity.gid, "extra_groups": []}
        os.chown(home, identity.uid, identity.gid)
    try:
        yield Programs(folder / "bin", home, user)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        if shelter is not None:
            shutil.rmtree(shelter.folder, ignore_errors=True)


def new_server(programs: Programs, name: str = "cluster") -> Server:
    """Start a server on an empty cluster with the database `yours`."""
    server = Server(programs, name, secrets.token_hex(16), free_port())
    given = programs.home / f"{name}.password"
    given.write_text(server.password)
    given.chmod(0o644)  # in the test's own folder, for a server that lives as long as the test
    subprocess.run(
        [programs.folder / "initdb", "-D", server.cluster, "--username=owner",
         f"--pwfile={given}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"],
        check=True, capture_output=True, timeout=STARTED_S, cwd="/", **programs.user,
    )  # fmt: skip
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}".encode())
    return server


@contextmanager
def postgres_server(version: int) -> Iterator[str]:
    """Yields: the DSN of an empty database, as its superuser; server and data are removed at the end."""
    with postgres_programs(version) as programs:
        server = new_server(programs)
        try:
            with psycopg.connect(server.dsn()) as connection:
                assert connection.info.server_version // 10_000 == version
            yield server.dsn(DATABASE)
        finally:
            server.stop()


def free_port() -> int:
    """A free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
