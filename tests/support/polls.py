"""Parts of the capture's Java, run without Kafka Connect.

`java/polls` does what the worker does, and ends a source task after any of its polls: each poll is delivered with the
offset of its last record. `java/transactions` asks for open transactions as a source task does before it sends.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.artefacts.compile import compile_sources, java
from app.artefacts.dist import Artefacts
from app.artefacts.locking.artefact_requirements import Compile
from app.environment.settings import ROOT

STOCK = "io.debezium.connector.postgresql.PostgresConnectorTask"
WHOLE = "dev.headwater.positions.WholePositionsTask"
UPGRADED = f"{STOCK}>{WHOLE}"  # the second continues after the end of the first
RULE = Compile(jar="polls.jar", sources="tests/support/java/polls/java", release=17)
ASKING = Compile(jar="asking.jar", sources="tests/support/java/transactions/java", release=17)
# Debezium counts each logical message under its Java object's name, which differs for each.
MESSAGES = "message"
# Not of the stream: they come at random times, and contain the worker's clock.
LOGGING = """
appender.err.type = Console
appender.err.name = err
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = %d %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.err.ref = err
logger.positions.name = dev.headwater.positions
logger.positions.level = info
"""
ASIDE = ("__debezium-heartbeat", ".notifications")


@dataclass(frozen=True)
class Run:
    """The deliveries of a task, including its restarts.

    Args:
        records: (topic, key, value) in their order, without heartbeats and notifications.
        polls, ends: the number of polls with records, and of those after which the task was ended.
        error: why the run ended early; empty if it reached the last transaction.
    """

    records: list[tuple[str, Any, Any]]
    polls: int
    ends: int
    error: str


class Polls:
    """A JVM that runs tasks of one configuration, one run after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, task: str, *, batch: int, chance: float, seed: int, until_xid: int, within_s: int
    ) -> Run:
        """Read from the given offset to a transaction's END; after a poll, end the task with probability `chance`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{task} {batch} {chance} {seed} {until_xid} {within_s}\n")
        self._process.stdin.flush()
        records = []
        for line in self._lines():
            kind, _, rest = line.rstrip("\n").partition(" ")
            if kind == "R":
                topic, key, value = rest.split("\t")
                if not any(part in topic for part in ASIDE):
                    records.append((topic, json.loads(key), _timeless(json.loads(value))))
            elif kind == "X":
                return Run(records, 0, 0, rest)
            else:
                polls, ends = rest.split()
                return Run(records, int(polls), int(ends), "")
        raise AssertionError(f"the JVM ended with {self._process.wait()}")

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        return iter(self._process.stdout.readline, "")


@contextmanager
def polls(folder: Path, config: Mapping[str, str]) -> Iterator[Polls]:
    """Compile and start the JVM; `config` is the task's, `test.offset` its first offset."""
    command = _command(folder, RULE, "dev.headwater.polls.Polls", config)
    with (folder / "polls.log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield Polls(process)
        finally:
            process.kill()
            process.wait(timeout=30)


def asking(folder: Path, config: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a JVM that asks for open transactions; it prints a line at each look."""
    command = _command(folder, ASKING, "dev.headwater.positions.AskOpenTransactions", config)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _command(folder: Path, rule: Compile, program: str, config: Mapping[str, str]) -> list[str]:
    """Compile a program, write its configuration, and return the command that starts it."""
    artefacts = Artefacts(ROOT)
    artefacts.prepare(["debezium", "connect", rule.compiler])
    libraries = sorted(artefacts.directory("debezium").glob("*/*.jar"))
    libraries += artefacts.classpath("connect")
    jar = folder / rule.jar
    compiler = artefacts.classpath(rule.compiler)
    compile_sources(ROOT, rule, compiler=compiler, classpath=libraries, jar=jar)
    given, logging = folder / "task.properties", folder / "log4j2.properties"
    given.write_text(
        "".join(f"{key}={value}\n".replace("\\", "\\\\") for key, value in config.items())
    )
    logging.write_text(LOGGING)
    command = [str(java()), "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command += [f"-Dlog4j2.configurationFile={logging}"]
    command += ["-cp", os.pathsep.join(map(str, [jar, *libraries])), program, str(given)]
    return command


def _timeless(value: Any) -> Any:
    """The value without parts that differ between runs: times, and the order of END's counts."""
    if not isinstance(value, dict):
        return value
    kept = {key: part for key, part in value.items() if key not in ("ts_ms", "ts_us", "ts_ns")}
    if value.get("data_collections"):
        kept["data_collections"] = sorted(
            (re.sub(r"^io\.debezium\..*", MESSAGES, each["data_collection"]), each["event_count"])
            for each in value["data_collections"]
        )
    return kept
