"""Guards every rebuild: one at a time, enough disk space, and failures that say what to do."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import orjson
from deltalake.exceptions import DeltaError
from kafka.errors import KafkaError

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake.lakehouse import LedgerEntry
from spark_streaming.batch.silver_rebuild import RebuildRefusedError
from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.contract.names import parse_topic
from spark_streaming.ops.stopped import TableStoppedError
from spark_streaming.reading.bronze import Bronze, UnreadableObjectError

SAMPLED_EVENTS = 1_000
# Room for the new table, for its old files until they are dropped, and briefly for silver twice.
ROOM_TIMES = 4
ROOM_BYTES_MIN = 256 << 20
# Silver reads Kafka, not bronze: it may be ahead of the bronze sink.
SINK_WAIT_S = 120.0
POLL_S = 1.0


def entry_in(entries: Mapping[str, LedgerEntry], table: str) -> LedgerEntry:
    """Return a table's ledger entry. Raises: HeadwaterError without one."""
    if table not in entries:
        raise HeadwaterError(
            f"there is no silver table `{table}` in the ledger",
            hint=f"there are {', '.join(sorted(entries)) or 'none yet'}",
        )
    return entries[table]


def topic_in(entries: Mapping[str, LedgerEntry], table: str) -> str:
    """Return a table's topic by its ledger entry. Raises: HeadwaterError without one."""
    offsets = entry_in(entries, table).offsets
    if not offsets:
        raise HeadwaterError(f"table `{table}` has had no event yet: there is nothing to do")
    [topic] = offsets
    return topic


def source_table_of(
    bronze: Bronze, topic: str, prefix: str, waiting: Callable[[str], None]
) -> tuple[str, str]:
    """Return the source's schema and table name; in the topic's name some characters are replaced.

    Wait for the bronze sink if bronze has no event of the topic yet; `waiting` shows that.
    Raises: HeadwaterError if bronze has nothing of the topic within SINK_WAIT_S.
    """
    for partition in _awaited_partitions(bronze, topic, waiting):
        events = bronze.events(topic, partition, 0, lambda *_: None)
        for _, event in zip(range(SAMPLED_EVENTS), events, strict=False):
            try:
                source = orjson.loads(event.value or b"")["source"]
                return str(source["schema"]), str(source["table"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue
    parsed = parse_topic(topic, prefix)
    if parsed is None:
        raise HeadwaterError(f"topic {topic} does not belong to a table")
    return parsed


def _awaited_partitions(bronze: Bronze, topic: str, waiting: Callable[[str], None]) -> list[int]:
    limit = time.monotonic() + SINK_WAIT_S
    while not (partitions := bronze.partitions(topic)):
        if time.monotonic() > limit:
            raise HeadwaterError(
                f"bronze has nothing of {topic}",
                detail=f"silver has events of it; the bronze sink wrote none in {SINK_WAIT_S:.0f} s",
                hint="is the bronze sink running? `./headwater status connect capture`",
            )
        waiting(f"waiting for the first events of {topic} in bronze")
        time.sleep(POLL_S)
    return partitions


def check_room(settings: Settings, bronze: Bronze, table: str, topic: str) -> None:
    """Raise HeadwaterError if the embedded store's disk is too full to build the table."""
    if not settings.profile.objects_here:
        return
    needed = ROOM_TIMES * bronze.size(topic) + ROOM_BYTES_MIN
    free = shutil.disk_usage(settings.home).free
    if free < needed:
        raise HeadwaterError(
            f"the disk is too full to build `{table}` beside the existing table",
            detail=f"{free >> 20:,} MB are free, about {needed >> 20:,} MB are needed",
            hint=f"make room on the disk of {settings.home}",
        )


@contextmanager
def exclusive(settings: Settings, table: str) -> Iterator[None]:
    """Allow one rebuild of a table at a time in this home.

    Raises: HeadwaterError if another one runs.
    """
    folder = settings.home / "rebuild"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{quote(table, safe='')}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeadwaterError(
                f"table `{table}` is being rebuilt already", hint="wait for the other command"
            ) from None
        yield


@contextmanager
def named_failures() -> Iterator[None]:
    """Turn failures of services and rules into errors that say what to do."""
    again = "`./headwater rebuild` continues where this stopped"
    try:
        yield
    except (RebuildRefusedError, TableStoppedError) as error:
        raise HeadwaterError("the table cannot be rebuilt", detail=str(error)) from error
    except UnreadableObjectError as error:
        raise HeadwaterError(
            "an object of bronze cannot be read",
            detail=str(error),
            hint="replace it by an intact copy; see `./headwater verify --bronze`",
        ) from error
    except CatalogUnreachableError as error:
        raise HeadwaterError(str(error), hint=again) from error
    except KafkaError as error:
        raise HeadwaterError(
            "Kafka stopped answering", detail=_error_text(error), hint=f"{again}; `status kafka`"
        ) from error
    except (DeltaError, OSError) as error:
        raise HeadwaterError(
            "a read from the object store, or a write to it, failed",
            detail=_error_text(error),
            hint=f"{again}; `./headwater status s3`",
        ) from error


def _error_text(error: Any) -> str:
    return f"{type(error).__name__}: {error}"
