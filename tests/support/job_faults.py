"""Runs two jobs while their services are killed, and a reader that checks their lists all the time.

A list is complete if it has all rows of one version, and table `publications` has the version's run and
the list's digest.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from app.errors import HeadwaterError
from app.jobs.dagster_client import DagsterClient, Run
from app.serving.serving_address import reader_dsn
from tests.support.stack import Stack
from tests.support.waiting import until

ROWS = 3_000
SERVICES = ("jobs-daemon", "jobs-code", "jobs", "serving-db")
# A part of a process's command line → its name here.
PROGRAMS = {
    "attempt": ("app.jobs.task_attempt",),
    "task": ("app.jobs.kinds.sql_task", "app.serving.publish_task"),
    "spark task": ("app.jobs.kinds.spark_task",),
    "spark": ("org.apache.spark.deploy.SparkSubmit",),
}
KINDS = (*SERVICES, "run", *PROGRAMS)
UNFINISHED = 2  # runs of one job at a time: one runs, one waits
VICTIM_S = 240.0
OVER_S = 300.0  # every run must end within this time after the last kill
LOOK_S = 0.05

LISTS = """
[parameters]
version = 0

[tasks.compute]
kind = "sql"
statement = '''
CREATE SCHEMA IF NOT EXISTS lake.ml;
CREATE OR REPLACE TABLE lake.ml.fault_lists AS
  SELECT number AS rank, ${version} AS version FROM UNNEST(sequence(1, ROWS)) AS t (number)
'''
writes = ["ml.fault_lists"]
timeout = "90s"
retries = 2
retry_after = "1s"

[tasks.publish]
kind = "publish"
table = "ml.fault_lists"
name = "fault_lists"
key = ["rank"]
depends_on = ["compute"]
timeout = "90s"
retries = 5
retry_after = "3s"
"""
SPARK = """
[parameters]
version = 0

[tasks.compute]
kind = "spark"
file = "fault_spark.py"
arguments = ["${version}"]
writes = ["ml.fault_spark"]
timeout = "4min"
retries = 2
retry_after = "1s"

[tasks.publish]
kind = "publish"
table = "ml.fault_spark"
name = "fault_spark"
key = ["rank"]
depends_on = ["compute"]
timeout = "90s"
retries = 8
retry_after = "5s"
"""
PROGRAM = """
import sys
from pyspark.sql import SparkSession
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import load_store

session = SparkSession.builder.getOrCreate()
rows = session.range(1, ROWS + 1).selectExpr("id AS rank", f"{sys.argv[1]} AS version")
place = Lake(load_store()).spark_url("ml/fault_spark")
rows.write.format("delta").mode("overwrite").save(place)
"""
JOBS = ("fault_lists", "fault_spark")


def create_jobs(stack: Stack, folder: Path) -> None:
    """Create both jobs from files in `folder`."""
    folder.mkdir(exist_ok=True)
    texts = {"fault_lists.toml": LISTS, "fault_spark.toml": SPARK, "fault_spark.py": PROGRAM}
    for name, text in texts.items():
        (folder / name).write_text(text.replace("ROWS", str(ROWS)))
    for job in JOBS:
        # Where the machine has other work Dagster takes long to read all job files again.
        until(
            lambda job=job: stack.run("job", "create", str(folder / f"{job}.toml"), "--replace"),  # type: ignore[misc]
            within_s=VICTIM_S,
            what=f"job {job}",
        )


def client_of(stack: Stack) -> DagsterClient:
    return DagsterClient(f"http://{stack.settings.ports.address('jobs')}", timeout_s=10)


@dataclass
class Stream:
    """Starts one run after the other, each with its own version, while `thread` runs."""

    stack: Stack
    asked: int = 0
    refused: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        client = client_of(self.stack)
        while not self.stop.is_set():
            try:
                open_runs = Counter(one.job for one in client.runs() if not one.is_over)
                for job in JOBS:
                    if open_runs[job] < UNFINISHED:
                        self.asked += 1
                        client.launch(job, {"version": str(self.asked)})
            except HeadwaterError:
                self.refused += 1  # the service that answers is also killed
            self.stop.wait(1)


class Reader:
    """Reads the published lists all the time, like an application; records what is wrong."""

    def __init__(self, stack: Stack) -> None:
        self.wrong: list[str] = []
        self.looks = 0
        self.stop = threading.Event()
        self.seen: dict[str, set[str]] = {job: set() for job in JOBS}
        self._versions: dict[str, set[int]] = {}  # run → versions that were read as its list
        self._dsn = reader_dsn(stack.settings)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True, connect_timeout=5) as connection:
                    while not self.stop.is_set():
                        for job in JOBS:
                            self._look(connection, job)
                            self._look_late(connection, job)
                            self.looks += 1
                        self.stop.wait(LOOK_S)
            except psycopg.OperationalError:
                self.stop.wait(LOOK_S)  # the database was killed

    def _look(self, connection: psycopg.Connection[Any], job: str) -> None:
        """Read the list; return it if the publication is the same before and after."""
        before = self._published(connection, job)
        rows = self._rows(connection, job)
        if before != self._published(connection, job):
            return
        if before is None or rows is None:
            self._note(before is None and rows is None, f"{job}: {before}, and the table: {rows}")
            return
        run, count, digest = before
        self.seen[job].add(run)
        versions = {version for _, version in rows}
        self._versions.setdefault(run, set()).update(versions)
        whole = (len(rows), len(versions)) == (count, 1) == (ROWS, 1)
        self._note(
            whole and digest_of(rows) == digest,
            f"{job}: {len(rows)} rows of versions {versions}; published: {before}",
        )

    def _look_late(self, connection: psycopg.Connection[Any], job: str) -> None:
        """Read the list in a transaction that may have begun before the list was replaced."""
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM pg_class")
            time.sleep(LOOK_S)
            if not self.seen[job]:
                return
            rows = self._rows(connection, job) or []
        versions = {version for _, version in rows}
        self._note(
            (len(rows), len(versions)) == (ROWS, 1),
            f"{job}: {len(rows)} rows of versions {versions} in an older transaction",
        )

    def _note(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(what)

    @staticmethod
    def _published(connection: psycopg.Connection[Any], job: str) -> tuple[str, int, str] | None:
        try:
            return connection.execute(
                "SELECT run_id, rows, digest FROM publications WHERE name = %s", [job]
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            return None

    @staticmethod
    def _rows(connection: psycopg.Connection[Any], job: str) -> list[tuple[int, int]] | None:
        try:
            return connection.execute(f"SELECT rank, version FROM {job}".encode()).fetchall()
        except psycopg.errors.UndefinedTable:
            return None

    def versions_of(self, run: str) -> set[int]:
        return self._versions.get(run, set())


def digest_of(rows: Sequence[tuple[int, int]]) -> str:
    """The digest as in `publications`: a sum over the rows, in any order."""
    parts = (hashlib.sha256(repr(row).encode()).digest()[:16] for row in rows)
    return f"{sum(int.from_bytes(part, 'big') for part in parts) % (1 << 128):032x}"


@contextmanager
def beside(*loops: Callable[[], None]) -> Iterator[None]:
    threads = [threading.Thread(target=loop, daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()


def processes(stack: Stack) -> list[psutil.Process]:
    """The processes that work for tasks of this home, including attempts."""
    found = []
    for process in psutil.process_iter():
        try:
            attempt = PROGRAMS["attempt"][0] in process.cmdline()
            folder = process.environ().get(
                "HEADWATER_JOB_RUNS" if attempt else "HEADWATER_JOB_RUN_FOLDER", ""
            )
            if folder.startswith(str(stack.home)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def victims(stack: Stack, kind: str) -> list[int]:
    """The current processes of a kind."""
    if kind in SERVICES:
        seen = stack.observed(kind)
        return [seen.pid] if seen.pid is not None and seen.state == "ready" else []
    words = PROGRAMS["attempt" if kind == "run" else kind]
    code = stack.observed("jobs-code").pid
    found = []
    for process in processes(stack):
        try:
            if not set(words) & set(process.cmdline()):
                continue
            parent = process.ppid()
        except psutil.Error:
            continue
        if kind != "run":
            found.append(process.pid)
        elif parent not in (1, code):
            found.append(parent)
    return found


def kill_one(stack: Stack, rng: random.Random, number: int) -> str:
    """Wait for a process of this kind and kill it some time later. Returns: its name."""
    kind = rng.choice(KINDS)
    until(
        lambda: victims(stack, kind), within_s=VICTIM_S, what=f"a process to kill: {kind}",
        every_s=0.1,
    )  # fmt: skip
    time.sleep(rng.uniform(0, 3))  # the random moment of the kill
    for pid in rng.sample(found, 1) if (found := victims(stack, kind)) else []:
        psutil.Process(pid).kill()
        print(f"{number}: {kind}, {pid}", flush=True)
    return kind


def await_over(stack: Stack) -> list[Run]:
    """Wait until every run has ended. Returns: all runs."""
    client = client_of(stack)
    return until(
        lambda: [one for one in client.runs(limit=1_000) if one.job in JOBS],
        lambda runs: all(one.is_over for one in runs),
        within_s=OVER_S,
        what="the end of every run",
    )


def kill_under_runs(stack: Stack, seed: int, kills: int) -> None:
    """Kill this many processes during a stream of runs; then every run has ended and every list is complete."""
    rng = random.Random(seed)
    stream, reader = Stream(stack), Reader(stack)
    with beside(reader.run):
        try:
            with beside(stream.run):
                try:
                    killed = Counter(kill_one(stack, rng, number + 1) for number in range(kills))
                finally:
                    stream.stop.set()
            runs = await_over(stack)
            print(f"{kills} kills: {dict(killed)}; {stream.asked} runs asked for")
            print(f"runs: {dict(Counter((one.job, one.state) for one in runs))}")
            until(lambda: not processes(stack), within_s=30, what="the end of every task")
            for job in JOBS:
                _goes_on(stack, job, stream)
        finally:
            reader.stop.set()
    known = {one.id: int(one.parameters["version"]) for one in await_over(stack)}
    print(f"{reader.looks} looks at {sum(map(len, reader.seen.values()))} published lists")
    assert reader.wrong == []
    for run in set().union(*reader.seen.values()):
        assert reader.versions_of(run) <= {known[run]}, f"run {run} published another one's rows"
    _is_clean(stack)


def _goes_on(stack: Stack, job: str, stream: Stream) -> None:
    """Check that a run after all kills succeeds, and that the lake and the published list are from it."""
    stream.asked += 1
    words = ("job", "run", job, "--wait", "--set", f"version={stream.asked}")
    ended = stack.answer(*words, timeout_s=OVER_S, expect=None)
    assert (ended["state"], ended["reason"]) == ("succeeded", "")
    known = {row["name"]: row["run_id"] for row in stack.answer("job", "published")}
    assert known[job] == ended["run"]
    lake = f"SELECT version, count(*) FROM ml.{job} GROUP BY version"
    assert stack.query(lake) == [(stream.asked, ROWS)]


def _is_clean(stack: Stack) -> None:
    """Check that nothing unfinished is left."""
    with psycopg.connect(reader_dsn(stack.settings)) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '\\_new\\_%'"
        ).fetchall()
    assert tables == []
    assert processes(stack) == []
