"""Begins the stream of a home whose lake is older than its Kafka: restored, or of a lost home.

1. Refuse a lake that another home has filled, unless `headwater restore` has taken it over: two
   histories of one topic would mix.
2. Register the source's connector, stopped, at the position that the lake certainly has.
3. `capture` finds it so, and recovers it like a broken stream: every table is read again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from app.connectors.stream.continuity import RESTORED, SERVER_KEY, read_slot
from app.connectors.worker import Worker, retry_while_busy
from app.environment.restored import read_restored
from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake.merged_position import MergedPosition, merged_position
from app.source.database import Connection
from app.source.source_tables import Names
from spark_streaming.storage.lake import Lake

ANSWER_S = 90


def begins_restored(
    settings: Settings, worker: Worker, registered: Mapping[str, str] | None
) -> MergedPosition | None:
    """Return the position at which the stream of a restored lake begins; None if there is nothing to do.

    Raises: HeadwaterError if another home has filled the lake, or the worker does not answer.
    """
    if registered and read_restored(settings.home) is not None:
        _refuse_former_connector(settings, worker)
    if registered and (registered.get(SERVER_KEY) != str(RESTORED) or _offsets(settings, worker)):
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
        hint="give this home buckets of its own; or, if that home is gone for good: "
        "`headwater restore --from-bucket` in an empty home takes the lake over",
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

    Raises: HeadwaterError if the worker does not answer.
    """
    name, lsn = settings.connector, max(found.certain_lsn, 1)
    offset = {"lsn": lsn, "lsn_proc": lsn, "lsn_commit": lsn, "ts_usec": 0}
    partition = {"server": settings.topic_prefix}

    def register() -> None:
        if worker.config(name) is None:
            worker.create_stopped(name, {**config, SERVER_KEY: str(RESTORED)})
        worker.alter_offsets(name, [{"partition": partition, "offset": offset}])

    retry_while_busy(register, within_s=ANSWER_S, what="giving the connector the lake's position")
    print(f"connector `{name}` waits: the lake was restored", file=sys.stderr)


def _refuse_former_connector(settings: Settings, worker: Worker) -> None:
    """Raise HeadwaterError if Kafka has outlived the home whose lake was restored."""
    servers = {one["partition"].get("server") for one in _offsets(settings, worker)}
    if servers and settings.topic_prefix not in servers:
        raise HeadwaterError(
            "Kafka still has the connector of the former home, so the restored lake cannot go on there",
            detail=f"connector `{settings.connector}` has captured into {', '.join(map(str, servers))}.*, "
            f"and this home captures into {settings.topic_prefix}.*",
            hint="if Kafka has outlived the home, nothing was to be restored: `headwater up` with the same "
            "profile in an empty home goes on. Else delete the topics headwater-connect-* first",
        )


def _offsets(settings: Settings, worker: Worker) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = retry_while_busy(
        lambda: worker.offsets(settings.connector),
        within_s=ANSWER_S,
        what="asking for the connector's offsets",
    )
    return found
