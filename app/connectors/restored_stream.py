"""Begins the stream of a home whose lake is older than its Kafka: restored, or of a lost home.

1. Refuse a lake that another home has filled, unless `headwater restore` has taken it over: two
   histories of one topic would mix.
2. Register the source's connector, stopped, at the position that the lake certainly has.
3. `capture` finds it so, and recovers it like a broken stream: every table is read again.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.connectors.continuity import RESTORED, SERVER_KEY, read_slot
from app.connectors.worker import Worker
from app.environment.restored import read_restored
from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake.merged_position import MergedPosition, merged_position
from app.source.database import Connection
from app.source.source_tables import Names
from spark_streaming.storage.lake import Lake


def begins_restored(
    settings: Settings, worker: Worker, registered: Mapping[str, str] | None
) -> MergedPosition | None:
    """Return the position at which the stream of a restored lake begins; None if there is nothing to do.

    Raises: HeadwaterError if another home has filled the lake; WorkerBusy.
    """
    if registered and (
        registered.get(SERVER_KEY) != str(RESTORED) or worker.offsets(settings.connector)
    ):
        return None
    found = merged_position(Lake(settings.store))
    if registered or not found.prefixes:
        return found if registered else None
    refuse_filled_lake(settings, found)
    return found


def refuse_filled_lake(settings: Settings, found: MergedPosition) -> None:
    """Raise HeadwaterError if the lake has tables of another home that this one has not taken over."""
    if not found.prefixes:
        return
    if read_restored(settings.home) is not None and settings.topic_prefix not in found.prefixes:
        return
    raise HeadwaterError(
        f"bucket `{settings.store.lake_bucket}` holds the lake of another home, or of this one before its "
        "Kafka was lost",
        detail=f"its tables come from the topics {', '.join(sorted(f'{one}.*' for one in found.prefixes))}, "
        "and this home's Connect has never captured anything",
        hint="if that home is gone: `headwater restore --from-bucket` in an empty home takes the lake over; "
        "else give this home buckets of its own",
    )


def refuse_read_slot(connection: Connection, names: Names) -> None:
    """Raise HeadwaterError while another session reads the slot: the other home still lives."""
    slot = read_slot(connection, names.slot)
    if slot is not None and slot.active_pid is not None:
        raise HeadwaterError(
            f"another stack reads the replication slot `{names.slot}`, so its lake is not taken over",
            detail=f"the server's process {slot.active_pid} serves it",
            hint="stop that stack for good (`headwater down` there), then run `headwater up` again; if it is "
            "on a machine that is lost, end the session: "
            f"SELECT pg_terminate_backend({slot.active_pid})",
        )


def register_stopped(
    settings: Settings, worker: Worker, config: Mapping[str, str], found: MergedPosition
) -> None:
    """Register the source's connector, stopped, at a position; repeated after a crash.

    Raises: WorkerBusy.
    """
    name = settings.connector
    if worker.config(name) is None:
        worker.create_stopped(name, {**config, SERVER_KEY: str(RESTORED)})
    lsn = max(found.certain_lsn, 1)
    offset = {"lsn": lsn, "lsn_proc": lsn, "lsn_commit": lsn, "ts_usec": 0}
    partition = {"server": settings.topic_prefix}
    worker.alter_offsets(name, [{"partition": partition, "offset": offset}])
