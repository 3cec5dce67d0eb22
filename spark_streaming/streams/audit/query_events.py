"""Decodes the topic of the audit: the events of Trino's Kafka event listener (476), and those of verbs."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from spark_streaming.events.event import RawEvent
from spark_streaming.streams.stream_event import Refused

STATEMENT_CHARS_MAX = 65_536
MESSAGE_CHARS_MAX = 2_000
_CATALOG = "lake"
_DURATION = re.compile(r"(?:PT)?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?")


class Started(NamedTuple):
    """A question has begun. `values` are those of `ops.audit` that are known by then."""

    query_id: str
    time: dt.datetime
    values: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """A question has ended, well or badly."""

    query_id: str
    time: dt.datetime
    values: dict[str, Any]
    tables: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def account(self) -> tuple[str, str]:
        """Who asked, and with which program."""
        return self.values["user_name"] or "", self.values["source"] or ""


class Told(NamedTuple):
    """A verb of the command line tells what it did; `key` is the event's identity."""

    key: str
    time: dt.datetime
    values: dict[str, Any]


def decode(raw: RawEvent) -> Started | Ended | Told:
    """Return what a record of the topic says. Raises: Refused."""
    if raw.value is None:
        raise Refused("no-value", "the record has no value")
    try:
        document = orjson.loads(raw.value)
        if "verb" in document:
            return _told(document)
        event = document["eventPayload"]
        return _ended(event) if "statistics" in event else _started(event)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"no event of Trino 476 or of a verb: {type(error).__name__}: {error}"
        raise Refused("not-an-event", reason) from None


def _started(event: Mapping[str, Any]) -> Started:
    return Started(
        event["metadata"]["queryId"],
        _time(event["createTime"]),
        _asked(event["context"], event["metadata"]),
    )


def _ended(event: Mapping[str, Any]) -> Ended:
    metadata, figures = event["metadata"], event["statistics"]
    failure = event.get("failureInfo") or {}
    inputs, output = event["ioMetadata"].get("inputs") or [], event["ioMetadata"].get("output")
    tables = metadata.get("tables") or []
    names, columns = _read(tables, inputs)
    values = {
        **_asked(event["context"], metadata),
        "state": metadata["queryState"],
        "error": (failure.get("errorCode") or {}).get("name"),
        "error_message": _cut(failure.get("failureMessage"), MESSAGE_CHARS_MAX),
        "tables": ", ".join(names) or None,
        "columns": ", ".join(columns) or None,
        "written": _name(output["catalogName"], output["schema"], output["table"])
        if output
        else None,
        "masks": _json(
            {
                f"{_of(table)}.{column['column']}": column["mask"]
                for table in tables
                for column in table.get("columns") or []
                if column.get("mask")
            }
        ),
        "filters": _json({_of(t): t["filters"] for t in tables if t.get("filters")}),
        "rows": figures.get("outputRows"),
        "bytes": figures.get("outputBytes"),
        "rows_read": figures.get("physicalInputRows"),
        "bytes_read": figures.get("physicalInputBytes"),
        "cpu_ms": _milliseconds(figures.get("cpuTime")),
        "wall_ms": _milliseconds(figures.get("wallTime")),
        "ended_at": _time(event["endTime"]),
        "queries": 1,
        "failed": 1 if failure else 0,
    }
    return Ended(metadata["queryId"], _time(event["createTime"]), values, names, columns)


def _asked(context: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "user_name": context["user"],
        "principal": context.get("principal"),
        "groups": ", ".join(sorted(context.get("groups") or [])) or None,
        "source": context.get("source"),
        "client_address": context.get("remoteClientAddress"),
        "user_agent": context.get("userAgent"),
        "statement": _cut(metadata["query"], STATEMENT_CHARS_MAX),
        "query_type": context.get("queryType"),
    }


def _read(
    tables: Iterable[Mapping[str, Any]], inputs: Iterable[Mapping[str, Any]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of tables and columns, as analysis has them, and as the connectors read them."""
    names: set[str] = set()
    columns: set[str] = set()
    for table in tables:
        names.add(_of(table))
        columns.update(f"{_of(table)}.{one['column']}" for one in table.get("columns") or [])
    for one in inputs:
        name = _name(one["catalogName"], one["schema"], one["table"])
        names.add(name)
        columns.update(f"{name}.{_column(column)}" for column in one.get("columns") or [])
    return tuple(sorted(names)), tuple(sorted(columns))


def _column(column: object) -> str:
    return (
        str(column.get("name") or column.get("column")) if isinstance(column, dict) else str(column)
    )


def _of(table: Mapping[str, Any]) -> str:
    return _name(table["catalog"], table["schema"], table["table"])


def _name(catalog: str, schema: str, table: str) -> str:
    return f"{schema}.{table}" if catalog == _CATALOG else f"{catalog}.{schema}.{table}"


def _told(document: Mapping[str, Any]) -> Told:
    values = {
        "kind": document["kind"],
        "user_name": document["user"],
        "client_address": document.get("machine"),
        "source": "headwater",
        "query_type": document["verb"],
        "statement": _cut(document.get("words"), STATEMENT_CHARS_MAX),
        "tables": document.get("tables"),
        "rows": document.get("rows"),
        "detail": _json(document.get("detail") or {}),
    }
    if values["kind"] not in ("verb", "change"):
        raise ValueError(f"kind `{values['kind']}`")
    return Told(str(document["key"]), _time(document["time"]), values)


def _time(given: object) -> dt.datetime:
    """Return a time that Trino's JSON has as text, or in seconds since 1970."""
    if isinstance(given, (int, float)):
        return dt.datetime.fromtimestamp(given, dt.timezone.utc)
    # Nanoseconds are more than Python reads.
    text = re.sub(r"(\.\d{6})\d+", r"\1", str(given)).replace("Z", "+00:00")
    head, dot, rest = text.partition(".")
    if dot:  # Python 3.10 reads three or six digits only
        digits, zone = re.fullmatch(r"(\d+)(.*)", rest).groups()  # type: ignore[union-attr]
        text = f"{head}.{digits:0<6}{zone}"
    return dt.datetime.fromisoformat(text).astimezone(dt.timezone.utc)


def _milliseconds(given: object) -> int | None:
    """Return a duration that Trino's JSON has in seconds, or as ISO text."""
    if given is None:
        return None
    if isinstance(given, (int, float)):
        return round(given * 1000)
    match = _DURATION.fullmatch(str(given))
    if match is None:
        raise ValueError(f"`{given}` is no duration")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round(((hours * 60 + minutes) * 60 + seconds) * 1000)


def _cut(text: str | None, chars_max: int) -> str | None:
    return None if text is None else text[:chars_max]


def _json(found: Mapping[str, Any]) -> str | None:
    return orjson.dumps(found).decode() if found else None
