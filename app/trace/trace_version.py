"""One version of a traced row, as a record or as a line for each hop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from deltalake.exceptions import DeltaError

from app.errors import HeadwaterError
from app.trace.trace_event import document_of, lsn_of
from app.trace.trace_key import RowKey, images_of
from app.trace.trace_scan import Found
from app.trace.trace_silver import Batch, Row
from spark_streaming.contract.lsn import lsn_text
from spark_streaming.events.event import RawEvent
from spark_streaming.events.layout import is_placeholder
from spark_streaming.events.row_images import NEW_KEY_HEADER, OLD_KEY_HEADER
from spark_streaming.reading.bronze import UnreadableObjectError
from spark_streaming.storage.store_address import ObjectStore

HOP_COLUMNS = ("version", "event", "hop", "at", "ms", "where")
MASKED, UNCHANGED = "(masked)", "(unchanged, not in the event)"
NOW = "now"
_EVENTS = {
    "c": "insert",
    "u": "update",
    "d": "delete",
    "r": "snapshot",
    "t": "truncate",
    "m": "resync",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Version:
    """An event's effect on the row, and its place at each hop; None if that is not known.

    Args:
        event: insert, update, delete, snapshot, truncate or resync (the row was not in the source
            any more); `now` is Trino's answer.
        lsn: as Postgres prints it.
        transaction: the transaction's id.
        kafka: TOPIC/PARTITION/OFFSET, as `quarantine` names it.
        bronze, line: the object, and the line in it from 1.
        batch, delta_version, data_file: the micro-batch that merged it, the version of the table
            that the batch made, and the file with the row; for `now`, the file that holds the row.
        …_ms: milliseconds from the commit in the source to the hop.
        state: the outcome, e.g. merged or in quarantine.
        row: the values; masked ones are replaced.
    """

    event: str
    lsn: str | None = None
    transaction: int | None = None
    committed_at: datetime | None = None
    debezium_ms: int | None = None
    kafka: str | None = None
    kafka_ms: int | None = None
    bronze: str | None = None
    line: int | None = None
    bronze_ms: int | None = None
    batch: int | None = None
    delta_version: int | None = None
    data_file: str | None = None
    silver_ms: int | None = None
    state: str = ""
    row: dict[str, Any] | None = None

    def as_row(self) -> tuple[Any, ...]:
        """Return the values of COLUMNS."""
        return tuple(getattr(self, name) for name in COLUMNS)

    def hops(self, number: int | str) -> Iterator[tuple[Any, ...]]:
        """Yield the values of HOP_COLUMNS for each hop."""
        values = json.dumps(self.row, ensure_ascii=False, default=str) if self.row else ""
        if self.event == NOW:
            where = [self.state, values]
            if self.delta_version is not None:
                where[1:1] = [f"version {self.delta_version}, {self.data_file}"]
            yield number, self.event, "trino", None, None, "; ".join(filter(None, where))
            return
        place = f"LSN {self.lsn}, transaction {self.transaction}"
        source = f"{place}: {values}" if values else place
        yield number, self.event, "postgres", self.committed_at, 0, source
        if self.debezium_ms is not None:
            yield number, self.event, "debezium", self._at(self.debezium_ms), self.debezium_ms, ""
        yield number, self.event, "kafka", self._at(self.kafka_ms), self.kafka_ms, self.kafka
        bronze = f"{self.bronze} line {self.line}" if self.bronze else "not there yet"
        yield number, self.event, "bronze", self._at(self.bronze_ms), self.bronze_ms, bronze
        facts = [self.state]
        if self.batch is not None:
            facts.append(f"batch {self.batch}")
        if self.delta_version is not None:
            facts.append(f"version {self.delta_version}")
        if self.data_file:
            facts.append(self.data_file)
        yield (
            number,
            self.event,
            "silver",
            self._at(self.silver_ms),
            self.silver_ms,
            ", ".join(facts),
        )

    def _at(self, after_ms: int | None) -> datetime | None:
        if after_ms is None or self.committed_at is None:
            return None
        return self.committed_at + timedelta(milliseconds=after_ms)


COLUMNS = tuple(field.name for field in fields(Version))


def version_of(
    found: Found,
    *,
    store: ObjectStore,
    put_at: datetime | None,
    batch: Batch | None,
    data_file: str | None,
    row: Row | None,
    state: str,
    masked: frozenset[str],
) -> Version:
    """Make a version of an event.

    Args:
        put_at: when the object was put; some object stores give whole seconds only.
        row: the row in silver, if it is this version's.
        masked: columns whose values are not shown.
    """
    event = found.event
    document = document_of(event)
    source: Mapping[str, Any] = document.get("source") or {}
    lsn = lsn_of(event)
    committed_us = source.get("ts_us") or (source.get("ts_ms") or 0) * 1000
    sent_us = document.get("ts_us") or (document.get("ts_ms") or 0) * 1000
    merged = row.merged_at if row else batch.merged_at if batch else None
    return Version(
        event=_event_name(event, document),
        lsn=None if lsn is None else lsn_text(lsn),
        transaction=source.get("txId"),
        committed_at=_EPOCH + timedelta(microseconds=committed_us) if committed_us else None,
        debezium_ms=_between(committed_us, sent_us),
        kafka=f"{event.topic}/{event.partition}/{event.offset}",
        kafka_ms=_between(committed_us, event.timestamp_ms * 1000),
        bronze=store.bronze_url(found.path) if found.path else None,
        line=found.line or None,
        bronze_ms=_between(committed_us, _us(put_at)),
        batch=batch.batch_id if batch else None,
        delta_version=batch.delta_version if batch else None,
        data_file=data_file,
        silver_ms=_between(committed_us, _us(merged)),
        state=state,
        row=_values(document.get("after"), masked),
    )


def with_other_key(
    version: Version, event: RawEvent, key: RowKey, masked: frozenset[str]
) -> Version:
    """Name the other key in a version whose update changed the key within one event.

    This applies only if the row is recognized by the values in the events (`key.in_rows`).
    """
    before, after = images_of(event.value) if key.in_rows else (None, None)
    if before is None or after is None or key.is_of(before) == key.is_of(after):
        return version
    names = [column.source_name for column in key.columns]
    leaves = key.is_of(before)
    other = {
        name: MASKED if name in masked else (after if leaves else before).get(name)
        for name in names
    }
    name = f"update, key {'becomes' if leaves else 'was'} {json.dumps(other, ensure_ascii=False)}"
    return replace(version, event=name, row=None if leaves else version.row)


def _event_name(event: RawEvent, document: Mapping[str, Any]) -> str:
    name = _EVENTS.get(str(document.get("op")), "not read")
    headers = dict(event.headers)
    for header, text in ((NEW_KEY_HEADER, "key becomes"), (OLD_KEY_HEADER, "key was")):
        if headers.get(header):
            return f"{name}, {text} {headers[header].decode(errors='replace')}"
    return name


def _values(image: Any, masked: frozenset[str]) -> dict[str, Any] | None:
    if not isinstance(image, dict):
        return None
    return {
        name: MASKED if name in masked else UNCHANGED if is_placeholder(value) else value
        for name, value in image.items()
    }


def _us(moment: datetime | None) -> int:
    return int((moment - _EPOCH) / timedelta(microseconds=1)) if moment else 0


def _between(committed_us: int, at_us: int) -> int | None:
    return round((at_us - committed_us) / 1000) if committed_us and at_us else None


@contextmanager
def named_failures() -> Iterator[None]:
    """Turn failures of the object store into a HeadwaterError."""
    try:
        yield
    except UnreadableObjectError as error:
        raise HeadwaterError(
            "bronze has an object that cannot be read",
            detail=str(error),
            hint="`./headwater verify --bronze` lists all problems of bronze",
        ) from error
    except (DeltaError, OSError) as error:
        raise HeadwaterError(
            "a read from the object store failed",
            detail=f"{type(error).__name__}: {error}",
            hint="`./headwater status s3`",
        ) from error
