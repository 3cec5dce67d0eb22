"""Registers Debezium and the bronze sink with Kafka Connect: `python -m app.connectors.registration`.

1. Make sure that the source can be captured (fix it if that is allowed).
   2. If the stream of a previous run cannot continue (`continuity.py`): print why, keep its
   connector stopped, and register only the bronze sink. `headwater recover` repairs the stream.
   If the lake was restored into this home (`restored_stream.py`): register the sink, and the
   source's connector without starting it.
3. Make the topics of tables without a key, one partition each.
4. Complete both configurations; let the worker validate them.
5. Register them; a connector whose configuration is unchanged does not restart.
6. Wait until every task runs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence

from kafka.errors import KafkaError

from app.connectors.capture_record import DONE, forget_all, pattern, record
from app.connectors.keyless_topics import ensure_single, too_many
from app.connectors.partitions import note
from app.connectors.stream.continuity import (
    SERVER_KEY,
    Beats,
    Stream,
    judge,
    read_beat,
    read_slot,
    read_stream,
)
from app.connectors.stream.restored_stream import (
    begins_restored,
    refuse_read_slot,
    register_stopped,
)
from app.connectors.stream.stream_state import read_state
from app.connectors.worker import Task, Worker, WorkerBusy, retry_while_busy
from app.environment.settings import ROOT, Settings, load, of_source
from app.errors import HeadwaterError
from app.source.database import Connection, address_of, connect
from app.source.jdbc_options import connector_options
from app.source.preflight import ensure_ready
from app.source.shared_names import to_exclude
from app.source.source_tables import OWN_SCHEMA, Names, SourceTable, source_tables
from app.source.tls import connector_tls
from spark_streaming.capture_choice import EVERYTHING, Choice
from spark_streaming.storage.store_clients import sink_options

SOURCE, BRONZE = "source", "bronze"
FILES = {SOURCE: ROOT / "debezium" / "connector.json", BRONZE: ROOT / "connect" / "bronze.json"}
SNAPSHOT_LIST = "snapshot.include.collection.list"
SNAPSHOT_STATEMENTS = "snapshot.select.statement.overrides"
LEFT_OUT_LIST = "table.exclude.list"
COLUMNS_LEFT_OUT = "column.exclude.list"
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
    choice: Choice = EVERYTHING,
) -> dict[str, str]:
    """Complete Debezium's configuration: the template, the source's address, the first snapshot.

    It has no password: the worker reads that from its environment.

    Args:
        tables: the tables in the publication.
        unreadable: tables at which Debezium would stop, since it reads every table's columns.
        choice: the tables and columns that the profile leaves out.
    """
    address = address_of(capture_dsn)
    own = {name: f"{OWN_SCHEMA}.{getattr(names, name)}" for name in ("heartbeat", "signal")}
    snapshotted = [*own.values(), *map(str, tables)]
    columns = choice.column_expressions()
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
        # Without this, Debezium would snapshot every table of the database, not only published
        # ones.
        SNAPSHOT_LIST: ",".join(pattern(name) for name in snapshotted),
        **_own_rows(tables),
        **left_out(unreadable),
        **({COLUMNS_LEFT_OUT: ",".join(columns)} if columns else {}),
    }


def left_out(tables: Sequence[SourceTable]) -> dict[str, str]:
    """Return the setting that keeps Debezium from reading these tables' columns; empty for none."""
    names = ",".join(pattern(str(table)) for table in tables)
    return {LEFT_OUT_LIST: names} if names else {}


def templates() -> dict[str, dict[str, str]]:
    """Return connector → its shipped configuration, with the object store's address."""
    shipped = {name: json.loads(path.read_text()) for name, path in FILES.items()}
    return {**shipped, BRONZE: {**shipped[BRONZE], **sink_options()}}


def chunk_rows() -> int:
    """Return how many rows an incremental snapshot reads at once."""
    return int(templates()[SOURCE]["incremental.snapshot.chunk.size"])


def _own_rows(tables: list[SourceTable]) -> dict[str, str]:
    """Limit snapshots of parent tables to their own rows; their children are separate tables."""
    statements = {str(table): own for table in tables if (own := table.own_rows())}
    if not statements:
        return {}
    return {
        SNAPSHOT_STATEMENTS: ",".join(statements),
        **{f"{SNAPSHOT_STATEMENTS}.{name}": own for name, own in statements.items()},
    }


def register_all(settings: Settings, worker: Worker) -> None:
    """Register both connectors and wait until they run.

    Raises: HeadwaterError with the worker's message if it refuses a connector, or if one fails.
    """
    role, names = address_of(settings.capture_dsn).user, Names.of(settings)
    choice = Choice.of(settings.profile)
    configs = templates()
    for name in (SOURCE, BRONZE):
        configs[name] |= settings.kafka.sink_options()
    sink = {} if settings.source else {BRONZE: _sink(configs[BRONZE], settings)}
    registered = retry_while_busy(
        lambda: worker.config(settings.connector),
        within_s=WORKER_WAIT_S,
        what="asking Kafka Connect",
    )
    lake = begins_restored(settings, worker, registered)
    with connect(settings.source_dsn, application="headwater connectors") as connection:
        if lake is not None:
            refuse_read_slot(connection, names)
        stream = retry_while_busy(
            lambda: current_stream(settings, worker, connection, registered or {}),
            within_s=WORKER_WAIT_S,
            what="asking for the connector's offsets",
        )
        broken = judge(stream, settings.profile.accept_source) if lake is None else None
        if broken is not None:
            print(broken, file=sys.stderr)
            retry_while_busy(
                lambda: worker.stop(settings.connector), within_s=WORKER_WAIT_S, what="stopping it"
            )
            _run(worker, sink)
            return
        found = source_tables(connection, role, names.publication, choice)
        tables = [table for table in found if table.published and table.chosen]
        if not registered:
            # The initial snapshot covers all that is published now.
            with connection.transaction():
                forget_all(connection, names)
                record(connection, names, tables, DONE)
            note(connection, names, tables)
    _make_topics(settings, tables)
    excluded = to_exclude(found)
    template = configs[SOURCE] | own_variables(settings)
    config = source_config(template, settings.capture_dsn, names, tables, excluded, choice)
    config[SERVER_KEY] = str(stream.server)
    if registered:
        # The first snapshot is over; a new list would only restart the connector.
        first = (SNAPSHOT_LIST, SNAPSHOT_STATEMENTS)
        new = {k: v for k, v in config.items() if not k.startswith(first)}
        config = new | {k: v for k, v in registered.items() if k.startswith(first)}
    if lake is not None:
        _validate(worker, settings.connector, config)
        register_stopped(settings, worker, config, lake)
        _run(worker, sink)
        return
    if not settings.source:
        retry_while_busy(
            lambda: remove_former(settings, worker),
            within_s=WORKER_WAIT_S,
            what="removing the connectors of former sources",
        )
    _run(worker, {settings.connector: config, **sink})


def remove_former(settings: Settings, worker: Worker) -> None:
    """Remove the connectors of sources that the profile does not name any more; their slots stay."""
    prefix = f"{settings.topic_prefix}_"
    wanted = {of_source(settings, one.name).connector for one in settings.profile.sources}
    for name in worker.names():
        if not name.startswith(f"{SOURCE}_") or name in wanted:
            continue
        if not (worker.config(name) or {}).get("topic.prefix", "").startswith(prefix):
            continue  # it belongs to another stack in the user's own Connect cluster
        worker.remove(name)
        slot = f"{settings.profile.slot_name}_{name.removeprefix(f'{SOURCE}_')}"
        print(
            f"connector `{name}` is removed: the profile does not name its source any more. The slot "
            f"`{slot}` stays in that source and keeps WAL\n  hint: docs/operations/several-sources.md has the "
            "command that removes it",
            file=sys.stderr,
        )


def own_variables(settings: Settings) -> dict[str, str]:
    """Return the properties that differ for a further source: its prefix, its variable in Connect."""
    if not settings.source:
        return {}
    prefix = settings.topic_prefix
    return {
        "database.password": f"${{env:{settings.password_variable}}}",
        "topic.prefix": prefix,
        "notification.sink.topic.name": f"{prefix}.notifications",
    }


def _sink(config: dict[str, str], settings: Settings) -> dict[str, str]:
    """Add the topics of further sources to those that the sink reads."""
    prefixes = [of_source(settings, one.name).topic_prefix for one in settings.profile.sources]
    if not prefixes:
        return config
    topics = "|".join(f"{re.escape(prefix)}\\..+" for prefix in prefixes)
    return {**config, "topics.regex": f"{config['topics.regex']}|{topics}"}


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
    for name in configs.keys() - {BRONZE}:
        retry_while_busy(
            lambda name=name: worker.resume(name),  # type: ignore[misc]
            within_s=WORKER_WAIT_S,
            what="resuming capture",
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
    """Read the state of the source, and how far the connector of this configuration has consumed it.

    Raises: WorkerBusy if the worker cannot answer now, HeadwaterError if the source cannot.
    """
    name = Names.of(settings).slot
    slot = read_slot(connection, name)
    return read_stream(
        settings.capture_dsn,
        slot_name=name,
        slot=slot,
        config=config,
        offsets=worker.offsets(settings.connector),
        beats=Beats(read_beat(connection, Names.of(settings)), read_state(settings).beat),
    )


def _make_topics(settings: Settings, tables: list[SourceTable]) -> None:
    """Make the topics of keyless tables before the connector makes them with more partitions."""
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
            hint=f"its template is {FILES.get(name, FILES[SOURCE]).relative_to(ROOT)}; "
            "exactly-once support is the worker's `exactly.once.source.support`",
        )


def running(worker: Worker, name: str) -> list[Task]:
    """Return the connector and its tasks, if all of them run.

    Raises: WorkerBusy while they are not yet, HeadwaterError if one failed.
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
