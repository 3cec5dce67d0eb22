"""Registers Debezium and the bronze sink with Kafka Connect: `python -m app.connectors.registration`.

1. Make sure that the source can be captured (fix it where that is allowed).
2. Where the stream of a previous run cannot go on (`continuity.py`): print why, keep its connector
   stopped, and register the bronze sink only. `headwater recover` brings the stream back.
3. Make the topics of tables without a key, one partition each.
4. Complete both configurations; let the worker validate them.
5. Register them; a connector whose configuration is unchanged does not restart.
6. Wait until every task runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from kafka.errors import KafkaError

from app.connectors.capture_record import DONE, forget_all, pattern, record
from app.connectors.continuity import (
    SERVER_KEY,
    Beats,
    Stream,
    judge,
    read_beat,
    read_slot,
    read_stream,
)
from app.connectors.keyless_topics import ensure_single, too_many
from app.connectors.partitions import note
from app.connectors.stream_state import read_state
from app.connectors.worker import Task, Worker, WorkerBusy, retry_while_busy
from app.environment.settings import ROOT, Settings, load
from app.errors import HeadwaterError
from app.source.database import Connection, address_of, connect
from app.source.jdbc_options import connector_options
from app.source.preflight import ensure_ready
from app.source.shared_names import to_exclude
from app.source.source_tables import OWN_SCHEMA, Names, SourceTable, source_tables
from app.source.tls import connector_tls
from spark_streaming.storage.store_clients import sink_options

SOURCE, BRONZE = "source", "bronze"
FILES = {SOURCE: ROOT / "debezium" / "connector.json", BRONZE: ROOT / "connect" / "bronze.json"}
SNAPSHOT_LIST = "snapshot.include.collection.list"
SNAPSHOT_STATEMENTS = "snapshot.select.statement.overrides"
LEFT_OUT_LIST = "table.exclude.list"
WORKER_WAIT_S = 90
RUNNING_WAIT_S = 120
_BEAT = (
    "INSERT INTO {0} (id, beat, beaten_at) VALUES (1, 1, clock_timestamp()) "
    "ON CONFLICT (id) DO UPDATE SET beat = {0}.beat + 1, beaten_at = clock_timestamp()"
)


def source_config(
    template: Mapping[str, str],
    capture_dsn: str,
    names: Names,
    tables: list[SourceTable],
    unreadable: Sequence[SourceTable] = (),
) -> dict[str, str]:
    """Complete Debezium's configuration: the template, the source's address, the first snapshot.

    It has no password: the worker reads that from its environment.

    Args:
        tables: the tables in the publication.
        unreadable: tables at which Debezium would stop, since it reads every table's columns.
    """
    address = address_of(capture_dsn)
    own = {name: f"{OWN_SCHEMA}.{getattr(names, name)}" for name in ("heartbeat", "signal")}
    snapshotted = [*own.values(), *map(str, tables)]
    return {
        **template,
        "database.hostname": address.host,
        "database.port": str(address.port),
        "database.dbname": address.database,
        "database.user": address.user,
        **connector_tls(capture_dsn),
        **connector_options(capture_dsn),
        "slot.name": names.slot,
        "publication.name": names.publication,
        "signal.data.collection": own["signal"],
        "heartbeat.action.query": _BEAT.format(own["heartbeat"]),
        # Debezium would snapshot every table of the database, whatever is published.
        SNAPSHOT_LIST: ",".join(pattern(name) for name in snapshotted),
        **_own_rows(tables),
        **left_out(unreadable),
    }


def left_out(tables: Sequence[SourceTable]) -> dict[str, str]:
    """Return the setting that keeps Debezium from reading these tables' columns; empty for none."""
    names = ",".join(pattern(str(table)) for table in tables)
    return {LEFT_OUT_LIST: names} if names else {}


def templates() -> dict[str, dict[str, str]]:
    """Return connector → its configuration as shipped, with where the object store is."""
    shipped = {name: json.loads(path.read_text()) for name, path in FILES.items()}
    return {**shipped, BRONZE: {**shipped[BRONZE], **sink_options()}}


def chunk_rows() -> int:
    """Return how many rows an incremental snapshot reads at once."""
    return int(templates()[SOURCE]["incremental.snapshot.chunk.size"])


def _own_rows(tables: list[SourceTable]) -> dict[str, str]:
    """Limit snapshots of parent tables to their own rows: the children are tables of their own."""
    statements = {str(table): own for table in tables if (own := table.own_rows())}
    if not statements:
        return {}
    return {
        SNAPSHOT_STATEMENTS: ",".join(statements),
        **{f"{SNAPSHOT_STATEMENTS}.{name}": own for name, own in statements.items()},
    }


def register_all(settings: Settings, worker: Worker) -> None:
    """Register both connectors and wait until they run.

    Raises: HeadwaterError with the worker's message where it refuses one, or one fails.
    """
    role, names = address_of(settings.capture_dsn).user, Names.of(settings)
    configs = templates()
    registered = retry_while_busy(
        lambda: worker.config(SOURCE), within_s=WORKER_WAIT_S, what="asking Kafka Connect"
    )
    with connect(settings.source_dsn, application="headwater connectors") as connection:
        stream = retry_while_busy(
            lambda: current_stream(settings, worker, connection, registered or {}),
            within_s=WORKER_WAIT_S,
            what="asking for the connector's offsets",
        )
        broken = judge(stream, settings.profile.accept_source)
        if broken is not None:
            print(broken, file=sys.stderr)
            retry_while_busy(
                lambda: worker.stop(SOURCE), within_s=WORKER_WAIT_S, what="stopping it"
            )
            _run(worker, {BRONZE: configs[BRONZE]})
            return
        found = source_tables(connection, role, names.publication)
        tables = [table for table in found if table.published]
        if not registered:
            # The initial snapshot covers all that is published now.
            with connection.transaction():
                forget_all(connection, names)
                record(connection, names, tables, DONE)
            note(connection, names, tables)
    _make_topics(settings, tables)
    excluded = to_exclude(found)
    configs[SOURCE] = source_config(configs[SOURCE], settings.capture_dsn, names, tables, excluded)
    configs[SOURCE][SERVER_KEY] = str(stream.server)
    if registered:
        # The first snapshot is over; a new list would only restart the connector.
        first = (SNAPSHOT_LIST, SNAPSHOT_STATEMENTS)
        new = {k: v for k, v in configs[SOURCE].items() if not k.startswith(first)}
        configs[SOURCE] = new | {k: v for k, v in registered.items() if k.startswith(first)}
    _run(worker, configs)


def _run(worker: Worker, configs: Mapping[str, dict[str, str]]) -> None:
    """Register these connectors, and wait until all of their tasks run."""
    for name, config in configs.items():
        _validate(worker, name, config)
    for name, config in configs.items():
        retry_while_busy(
            lambda name=name, config=config: worker.register(name, config),  # type: ignore[misc]
            within_s=WORKER_WAIT_S,
            what=f"registering connector `{name}`",
        )
    # The guard may have stopped it for a reason that is fixed now.
    if SOURCE in configs:
        retry_while_busy(
            lambda: worker.resume(SOURCE), within_s=WORKER_WAIT_S, what="resuming capture"
        )
    for name in configs:
        retry_while_busy(
            lambda name=name: running(worker, name),  # type: ignore[misc]
            within_s=RUNNING_WAIT_S,
            what=f"waiting for connector `{name}` to run",
        )
        print(f"connector `{name}` runs", file=sys.stderr)


def current_stream(
    settings: Settings, worker: Worker, connection: Connection, config: Mapping[str, str]
) -> Stream:
    """Read the state of the source beside what the connector of this configuration has consumed.

    Raises: WorkerBusy where the worker cannot answer now, HeadwaterError where the source cannot.
    """
    name = Names.of(settings).slot
    slot = read_slot(connection, name)
    return read_stream(
        settings.capture_dsn,
        slot_name=name,
        slot=slot,
        config=config,
        offsets=worker.offsets(SOURCE),
        beats=Beats(read_beat(connection, Names.of(settings)), read_state(settings).beat),
    )


def _make_topics(settings: Settings, tables: list[SourceTable]) -> None:
    """Make the topics of keyless tables first, or the connector makes them with more partitions."""
    try:
        several = ensure_single(settings.kafka, settings.topic_prefix, tables)
    except KafkaError as error:
        raise HeadwaterError(
            "the topics of tables without a key cannot be made",
            detail=str(error),
            hint="see `headwater status kafka` and `headwater logs kafka`",
        ) from error
    for table, count in several.items():
        print(too_many(table, count), file=sys.stderr)


def main() -> int:
    """Register both connectors; return exit code 0 once every task runs."""
    settings = load()
    try:
        ensure_ready(settings)
        register_all(settings, Worker(*settings.connect_urls))
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _validate(worker: Worker, name: str, config: Mapping[str, str]) -> None:
    errors: list[str] = retry_while_busy(
        lambda: worker.errors_of(config, name),
        within_s=WORKER_WAIT_S,
        what=f"validating connector `{name}`",
    )
    if errors:
        raise HeadwaterError(
            f"Kafka Connect refuses the configuration of connector `{name}`",
            detail="\n".join(errors),
            hint=f"its template is {FILES[name].relative_to(ROOT)}; "
            "exactly-once support is the worker's `exactly.once.source.support`",
        )


def running(worker: Worker, name: str) -> list[Task]:
    """Return the connector and its tasks, if all of them run.

    Raises: WorkerBusy while they are not yet, HeadwaterError where one failed.
    """
    tasks = worker.tasks(name)
    failed = [task for task in tasks if task.state == "FAILED"]
    if failed:
        raise HeadwaterError(
            f"connector `{name}` failed",
            detail="\n".join(f"{task}: {task.why}" for task in failed),
            hint="see `headwater logs connect`",
        )
    # The first entry is the connector itself: it has no tasks until the worker has planned them.
    if len(tasks) < 2 or any(task.state != "RUNNING" for task in tasks):
        seen = ", ".join(f"{task} {task.state}" for task in tasks) or "not known yet"
        raise WorkerBusy(f"connector `{name}`: {seen}")
    return tasks


if __name__ == "__main__":
    sys.exit(main())
