"""One version of a traced row, as it is told: a record, or a line for each hop of its way."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from app.lake.trace_event import document_of, lsn_of
from app.lake.trace_key import RowKey, images_of
from app.lake.trace_scan import Found
from app.lake.trace_silver import Batch, Row
from spark_streaming.events import RawEvent
from spark_streaming.images import NEW_KEY_HEADER, OLD_KEY_HEADER
from spark_streaming.layout import is_placeholder
from spark_streaming.position import lsn_text

HOP_COLUMNS = ("version", "event", "hop", "at", "ms", "where")
MASKED, UNCHANGED = "(masked)", "(unchanged, not in the event)"
NOW = "now"
_EVENTS = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot", "t": "truncate"}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Version:
    """What an event did to the row, and where it went; None: not yet, or nobody knows any more.

    Args:
        event: insert, update, delete, snapshot or truncate; `now` is what Trino answers.
        lsn: as Postgres prints it; transaction: its id.
        kafka: TOPIC/PARTITION/OFFSET, as `quarantine` names it.
        bronze, line: the object and the line in it, from 1.
        batch, delta_version, data_file: the micro-batch that merged it, what that made of the
            table, and in which file the row was written; of `now` where it is.
        …_ms: from the commit in the source, to the hop.
        state: what became of it.
        row: the values, without those that a contract masks.
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
        """The values of COLUMNS."""
        return tuple(getattr(self, name) for name in COLUMNS)

    def hops(self, number: int | str) -> Iterator[tuple[Any, ...]]:
        """A row for each hop, as HOP_COLUMNS; `ms` from the commit."""
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
        told = [self.state]
        if self.batch is not None:
            told.append(f"batch {self.batch}")
        if self.delta_version is not None:
            told.append(f"version {self.delta_version}")
        if self.data_file:
            told.append(self.data_file)
        yield (
            number,
            self.event,
            "silver",
            self._at(self.silver_ms),
            self.silver_ms,
            ", ".join(told),
        )

    def _at(self, after_ms: int | None) -> datetime | None:
        if after_ms is None or self.committed_at is None:
            return None
        return self.committed_at + timedelta(milliseconds=after_ms)


COLUMNS = tuple(field.name for field in fields(Version))


def version_of(
    found: Found,
    *,
    bucket: str,
    put_at: datetime | None,
    batch: Batch | None,
    data_file: str | None,
    row: Row | None,
    state: str,
    masked: frozenset[str],
) -> Version:
    """An event as a version.

    Args:
        put_at: when the object was put, which the store knows to the second at worst.
        row: the row in silver, where it is this version's.
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
        event=_told(event, document),
        lsn=None if lsn is None else lsn_text(lsn),
        transaction=source.get("txId"),
        committed_at=_EPOCH + timedelta(microseconds=committed_us) if committed_us else None,
        debezium_ms=_between(committed_us, sent_us),
        kafka=f"{event.topic}/{event.partition}/{event.offset}",
        kafka_ms=_between(committed_us, event.timestamp_ms * 1000),
        bronze=f"s3://{bucket}/{found.path}" if found.path else None,
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
    """A version of a row whose key the events' rows tell: an update may change it, in one event."""
    before, after = images_of(event.value) if key.in_rows else (None, None)
    if before is None or after is None or key.is_of(before) == key.is_of(after):
        return version
    names = [column.source_name for column in key.columns]
    leaves = key.is_of(before)
    other = {
        name: MASKED if name in masked else (after if leaves else before).get(name)
        for name in names
    }
    told = f"update, key {'becomes' if leaves else 'was'} {json.dumps(other, ensure_ascii=False)}"
    return replace(version, event=told, row=None if leaves else version.row)


def _told(event: RawEvent, document: Mapping[str, Any]) -> str:
    name = _EVENTS.get(str(document.get("op")), "not read")
    headers = dict(event.headers)
    for header, words in ((NEW_KEY_HEADER, "key becomes"), (OLD_KEY_HEADER, "key was")):
        if headers.get(header):
            return f"{name}, {words} {headers[header].decode(errors='replace')}"
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
