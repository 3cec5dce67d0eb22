"""Flink with its Postgres CDC connector, to Iceberg and to Paimon: one JVM, one job, no Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from app.artefacts.dist import Artefacts
from app.compare.digest import Row
from spark_streaming.contract.contract import Contract
from tests.bench.peers.contender import READER, Arena, Program, peers_artefacts
from tests.bench.peers.equality import file_rows

FLINK, CONNECTOR = "1.20.3", "3.5.0"
HEAP_MB = 2_048
CHECKPOINT_S = 1
# Flink's own list for Java 17 and later, without packages that nothing here reflects on.
OPENED = (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.nio", "java.io",
    "java.text", "java.time", "java.util", "java.util.concurrent",
    "java.util.concurrent.atomic", "java.util.concurrent.locks",
)  # fmt: skip
OPTIONS = f"""\
execution.runtime-mode: STREAMING
parallelism.default: 1
execution.checkpointing.interval: {CHECKPOINT_S}s
execution.checkpointing.min-pause: 200ms
state.backend.type: hashmap
table.exec.sink.upsert-materialize: NONE
taskmanager.memory.network.min: 64m
taskmanager.memory.network.max: 64m
taskmanager.memory.managed.size: 256m
rest.bind-address: 127.0.0.1
rest.bind-port: 0
"""
COLUMNS = (
    "id BIGINT NOT NULL, v INT, note STRING, body STRING, price DECIMAL(12, 2), "
    "updated_at TIMESTAMP_LTZ(6), PRIMARY KEY (id) NOT ENFORCED"
)
SOURCE = """\
CREATE TEMPORARY TABLE default_catalog.default_database.{table} ({columns}) WITH (
  'connector' = 'postgres-cdc', 'hostname' = '{host}', 'port' = '{port}', 'username' = '{user}',
  'password' = '{password}', 'database-name' = '{database}', 'schema-name' = 'public',
  'table-name' = '{table}', 'slot.name' = 'flink_{table}', 'decoding.plugin.name' = 'pgoutput',
  'scan.incremental.snapshot.enabled' = 'true', 'scan.incremental.snapshot.backfill.skip' = 'true',
  'changelog-mode' = '{changelog}',
  'debezium.publication.name' = 'flink_{table}',
  'debezium.publication.autocreate.mode' = 'filtered'
)
;
"""
INSERT = """\
INSERT INTO sink.lake.{table} SELECT * FROM default_catalog.default_database.{table}
;
"""
CATALOGS = {
    "iceberg": "'type' = 'iceberg', 'catalog-type' = 'hadoop', 'warehouse' = '{warehouse}'",
    "paimon": "'type' = 'paimon', 'warehouse' = '{warehouse}'",
}
TABLES = {
    "iceberg": "'format-version' = '2', 'write.upsert.enabled' = 'true'",
    "paimon": "'bucket' = '1'",
}
COMPACTION = {"iceberg": "its files are not compacted", "paimon": "its writer compacts its files"}
VERSIONS = {"iceberg": "1.11.0", "paimon": "1.3.1"}


class Flink:
    """A Flink SQL job from the source's log into tables of one format on the local disk.

    Args:
        lake: `iceberg` or `paimon`.
        identity: of the source's tables. With DEFAULT the connector's changelog mode is `upsert`, because it
            needs the rows' previous values for `all`.
    """

    services: tuple[str, ...] = ("postgres",)

    def __init__(self, lake: str, identity: str) -> None:
        self.name = f"flink-{lake}"
        self.identity = identity
        self._lake = lake
        self._job: Program | None = None
        self._reader: Program | None = None

    def facts(self) -> dict[str, Any]:
        return {
            "flink": FLINK,
            "flink-sql-connector-postgres-cdc": CONNECTOR,
            self._lake: VERSIONS[self._lake],
            "settings": (
                f"one JVM, heap {HEAP_MB} MB, parallelism 1, a checkpoint each {CHECKPOINT_S} s, state on the heap, "
                f"no upsert-materialize, no backfill in the snapshot, changelog mode {self._changelog}, {TABLES[self._lake]}; "
                f"{COMPACTION[self._lake]}; a slot a table; tables and checkpoints on the local disk"
            ),
        }

    def start(self, arena: Arena) -> None:
        artefacts = peers_artefacts()
        groups = ["flink", "hadoop", self._lake, "programs"]
        artefacts.prepare(groups)
        warehouse = f"file://{arena.folder}/lake"
        options, statements = arena.folder / "flink.properties", arena.folder / "flink.sql"
        options.write_text(
            f"{OPTIONS}execution.checkpointing.dir: file://{arena.folder}/checkpoints\n"
            f"io.tmp.dirs: {arena.folder}/tmp\n"
        )
        (arena.folder / "tmp").mkdir()
        statements.touch(mode=0o600)  # it holds the source's password
        statements.write_text(self._statements(arena, warehouse))
        java = java_command(artefacts, groups, HEAP_MB)
        job = [*java, "dev.headwater.peers.FlinkJob", str(options), str(statements)]
        self._job = Program(self.name, job, arena.folder)
        self._job.start()
        reader = [*java_command(artefacts, groups, 512), "dev.headwater.peers.Reader", self._lake]
        self._reader = Program("reader", [*reader, warehouse], arena.folder, asked=True)
        self._reader.start()
        self._folder = arena.folder

    def pids(self) -> Mapping[str, int]:
        programs = {self.name: self._job, READER: self._reader}
        return {name: program.pid for name, program in programs.items() if program is not None}

    def ended(self) -> bool:
        return self._job is not None and self._job.ended()

    def value(self, table: str, key: int) -> int | None:
        assert self._reader is not None
        answer = self._reader.ask(f"v {table} {key}")
        # Until the job has made the table, the reader answers with an error.
        return int(answer) if answer.lstrip("-").isdigit() else None

    def rows(self, contract: Contract) -> Iterable[Row]:
        assert self._reader is not None
        file = self._folder / f"{contract.table}.tsv"
        answer = self._reader.ask(f"dump {contract.table} {file}")
        if not answer.isdigit():
            raise RuntimeError(answer)
        return file_rows(file, contract)

    def log_tail(self) -> str:
        programs = [self._job, self._reader]
        return "\n".join(program.tail() for program in programs if program is not None)

    def stop(self) -> None:
        for program in (self._job, self._reader):
            if program is not None:
                program.stop()

    @property
    def _changelog(self) -> str:
        return "all" if self.identity == "FULL" else "upsert"

    def _statements(self, arena: Arena, warehouse: str) -> str:
        catalog = CATALOGS[self._lake].format(warehouse=warehouse)
        parts = [
            f"CREATE CATALOG sink WITH ({catalog})\n;\n",
            "CREATE DATABASE sink.lake\n;\n",
        ]
        for table in arena.tables:
            parts.append(
                f"CREATE TABLE sink.lake.{table} ({COLUMNS}) WITH ({TABLES[self._lake]})\n;\n"
            )
            parts.append(
                SOURCE.format(
                    table=table, columns=COLUMNS, changelog=self._changelog, **arena.source
                )
            )
        parts += [INSERT.format(table=table) for table in arena.tables]
        return "".join(parts)


def java_command(artefacts: Artefacts, groups: list[str], heap_mb: int) -> list[str]:
    """The start of a JVM's command, with the groups' jars as its class path."""
    jars: list[Path] = [jar for group in groups for jar in artefacts.classpath(group)]
    return [
        str(artefacts.java()), f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
        "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow",
        "-Duser.timezone=UTC", "-cp", ":".join(map(str, jars)),
    ]  # fmt: skip
