"""A MariaDB or MySQL server of a test's own, where the machine has the program."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import sqlalchemy
from sqlalchemy.exc import DBAPIError

from tests.support.postgres_server import free_port
from tests.support.waiting import until

STARTED_S = 300.0
STOPPED_S = 60.0
_INSTALLS = shutil.which("mariadb-install-db")  # which asks `my_print_defaults`
_MARIADB = shutil.which("mariadbd") if _INSTALLS and shutil.which("my_print_defaults") else None
_MYSQL = None if shutil.which("mariadbd") else shutil.which("mysqld")
PROGRAM = _MARIADB or _MYSQL

# Little to write at the first start, and no waiting for the disk: the machine may be busy.
_SMALL = (
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-innodb-doublewrite",
)


@contextmanager
def mariadb_server() -> Iterator[str]:
    """Yields: the DSN of an empty database as its owner; server and data are removed at the end."""
    assert PROGRAM is not None
    home = Path(tempfile.mkdtemp(prefix="headwater-test-mariadb-"))
    password, port = secrets.token_hex(16), free_port()
    user = ["--user=root"] if os.geteuid() == 0 else []
    where = ["--no-defaults", f"--datadir={home}/data", *_SMALL, *user]
    first = home / "first.sql"  # not on a command line, which every user can read
    first.touch(mode=0o600)
    first.write_text(
        "CREATE DATABASE yours;\n"
        f"CREATE USER 'owner'@'%' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON *.* TO 'owner'@'%' WITH GRANT OPTION;\n"
    )
    dsn = f"mysql://owner:{password}@127.0.0.1:{port}/yours"
    try:
        with open(home / "log", "wb") as log:
            _initialise(where, log)
            server = subprocess.Popen(
                [PROGRAM, *where, "--bind-address=127.0.0.1", f"--port={port}",
                 f"--socket={home}/s", f"--pid-file={home}/pid", f"--init-file={first}",
                 "--innodb-buffer-pool-size=32M", "--skip-log-bin"],
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            engine = sqlalchemy.create_engine(dsn.replace("mysql:", "mysql+pymysql:"))

            def answers() -> bool:
                assert server.poll() is None, (home / "log").read_text(errors="replace")[-2_000:]
                try:
                    with engine.connect():
                        return True
                except DBAPIError:
                    return False

            until(answers, within_s=STARTED_S, what="the first answer of MariaDB")
            engine.dispose()
            yield dsn
        finally:
            server.terminate()
            try:
                server.wait(STOPPED_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(STOPPED_S)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _initialise(where: list[str], log: IO[bytes]) -> None:
    command = (
        [str(_INSTALLS), *where, "--auth-root-authentication-method=normal", "--skip-test-db"]
        if _MARIADB
        else [str(_MYSQL), *where, "--initialize-insecure"]
    )
    subprocess.run(command, check=True, timeout=STARTED_S, stdout=log, stderr=log)
