"""Reads the quarantine tables, and requests replays and discards from the jobs that write them.

Only the job writes its quarantine table (`silver` for captured tables, `streams` for streams). A
replay or discard is therefore an object under `requests/`, which the job carries out between two
batches and answers.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from spark_streaming.events.event import Place
from spark_streaming.ops.requests import FOLDER, STREAM_FOLDER, Answer, Desk, Request, new_id
from spark_streaming.quarantine.quarantine import OPEN
from spark_streaming.quarantine.raw_events import COLUMNS as EVENT_COLUMNS
from spark_streaming.quarantine.raw_events import event_at
from spark_streaming.storage.lake import QUARANTINE, STREAM_QUARANTINE, Lake

COLUMNS = ("entry", "table", "key", "rule", "reason", "status", "quarantined_at")
OUTCOME_COLUMNS = ("entry", "table", "outcome", "reason")
_READ = ["topic", "partition", "offset", "table_name", "key", "rule", "reason", "status"]
_READ += ["quarantined_at"]
_POLL_S = 0.2


@dataclass(frozen=True)
class Keeper:
    """A service with a quarantine of its own, and the folder of requests that it serves."""

    service: str
    table: str
    folder: str


SILVER = Keeper("silver", QUARANTINE, FOLDER)
STREAMS = Keeper("streams", STREAM_QUARANTINE, STREAM_FOLDER)


def entries(
    settings: Settings, tables: Sequence[str], *, resolved: bool, limit: int
) -> tuple[list[tuple[Any, ...]], int]:
    """Return at most `limit` entries as COLUMNS, newest first, and how many there are."""
    lakehouse = Lakehouse(settings)
    tables = [lakehouse.silver_name(name) for name in tables]
    matching = _read(lakehouse.lake, tables, resolved=resolved)
    order = [("quarantined_at", "descending"), ("topic", "ascending"), ("offset", "descending")]
    rows = matching.sort_by(order).slice(0, limit).to_pylist()
    return [
        (
            entry_name(Place(row["topic"], row["partition"], row["offset"])),
            row["table_name"],
            row["key"],
            row["rule"],
            row["reason"],
            row["status"] or OPEN,
            row["quarantined_at"],
        )
        for row in rows
    ], len(matching)


def open_entries(settings: Settings) -> Counter[str]:
    """Count the open entries of each table. Raises: DeltaError, OSError."""
    entries = _read(Lakehouse(settings).lake, [], resolved=False)
    return Counter(str(name) for name in entries["table_name"].to_pylist())


def entry_of(settings: Settings, name: str) -> dict[str, Any]:
    """Return one entry with all its values, the event as text if it is UTF-8. Raises: HeadwaterError."""
    place = place_named(name)
    if place is None:
        raise HeadwaterError(
            f"`{name}` names no entry", hint="TOPIC/PARTITION/OFFSET, see `quarantine list`"
        )
    lake = Lakehouse(settings).lake
    wanted = (pc.field("partition") == place.partition) & (pc.field("offset") == place.offset)
    tables = [table for keeper in (SILVER, STREAMS) if (table := _table(lake, keeper)) is not None]
    rows = [row for table in tables for row in table.to_table(filter=wanted).to_pylist()]
    rows = [row for row in rows if row["topic"] == place.topic]
    if not rows:
        raise HeadwaterError(f"there is no entry `{name}` in quarantine")
    row = rows[-1]
    # An entry of a previous release contains its event until the job has run once.
    event = row if "raw_value" in row else _event_at(lake, place)
    raw = {part: event[part] for part in EVENT_COLUMNS}
    row["replayed_values"] = event.get("replayed_values")
    row["status"] = row.get("status") or OPEN
    return {
        "entry": name,
        **{part: value for part, value in row.items() if part not in raw},
        "raw_key": _text(raw["raw_key"]),
        "raw_value": _text(raw["raw_value"]),
        "raw_headers": raw["raw_headers"],
    }


def _event_at(lake: Lake, place: Place) -> Mapping[str, Any]:
    events = (event_at(lake, keeper.table, place) for keeper in (SILVER, STREAMS))
    event = next((one for one in events if one is not None), None)
    if event is None:
        # Resolved entries, and with them their events, are removed after a while.
        raise HeadwaterError(f"the event of entry `{entry_name(place)}` is gone")
    return event


def resolve(
    settings: Settings,
    action: str,
    what: Sequence[str],
    *,
    everything: bool,
    wait_s: float,
    values: Mapping[str, str | None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[tuple[str, str, str, str]]:
    """Ask the jobs to replay or discard entries, and wait for the outcomes.

    Args:
        action: `replay` or `discard`.
        what: silver tables and entries.
        everything: allow an empty `what`, which means all open entries.
        values: new values for the single entry in `what`: column -> text as Postgres prints it,
            None for NULL. Other columns, and the entry itself, stay as they are.
    Returns: rows as OUTCOME_COLUMNS.
    Raises: HeadwaterError if nothing is named, or no answer arrives within `wait_s`.
    """
    if not what and not everything:
        hint = "name tables or entries of `quarantine list`, or give --all"
        raise HeadwaterError(f"nothing is named to {action}", hint=hint)
    lakehouse = Lakehouse(settings)
    lake, what = lakehouse.lake, _silver_names(lakehouse, what)
    tables, places = _named(lake, what)
    edits = _edits(what, places, values) if values is not None else ()
    deadline = clock() + wait_s
    asked = []
    for keeper, some, entries in _by_keeper(lake, tables, places):
        if edits and keeper is not SILVER:
            hint = "send a repaired event with a new key, and discard this one"
            raise HeadwaterError("the values of a stream's event are not changed", hint=hint)
        request = Request(
            new_id(datetime.now(timezone.utc), uuid.uuid4().hex),
            cast(Literal["replay", "discard"], action),
            tuple(some),
            tuple(entries),
            edits,
        )
        desk = Desk(lake, keeper.folder)
        desk.ask(request)
        asked.append((keeper, desk, request))
    rows: list[tuple[str, str, str, str]] = []
    for keeper, desk, request in asked:
        answer = _await(keeper, desk, request, lambda: clock() > deadline, wait_s)
        if answer.error:
            raise HeadwaterError(f"`quarantine {action}` failed", detail=answer.error)
        rows += [(entry_name(o.place), o.table, o.outcome, o.reason) for o in answer.outcomes]
    return rows


def _edits(
    what: Sequence[str], places: Sequence[Place], values: Mapping[str, str | None]
) -> tuple[tuple[Place, dict[str, str | None]], ...]:
    if len(what) != 1 or len(places) != 1 or not values:
        hint = "`quarantine replay ENTRY --set column=value`"
        raise HeadwaterError("other values are for one entry", hint=hint)
    return ((places[0], dict(values)),)


def keepers_of(settings: Settings, what: Sequence[str]) -> list[str]:
    """List the services that must run to resolve these tables and entries."""
    lakehouse = Lakehouse(settings)
    named = _named(lakehouse.lake, _silver_names(lakehouse, what))
    return [keeper.service for keeper, _, _ in _by_keeper(lakehouse.lake, *named)]


def _silver_names(lakehouse: Lakehouse, what: Sequence[str]) -> list[str]:
    return [name if place_named(name) else lakehouse.silver_name(name) for name in what]


def _by_keeper(
    lake: Lake, tables: list[str], places: list[Place]
) -> list[tuple[Keeper, list[str], list[Place]]]:
    """Assign tables and places to the keepers that have them; empty lists mean all entries."""
    streams = _read_one(lake, STREAMS, resolved=False)
    names = set(streams["table_name"].to_pylist())
    topics = set(streams["topic"].to_pylist())
    if not tables and not places:
        # A keeper without entries is not asked, because it may not run.
        return [(SILVER, [], []), *([(STREAMS, [], [])] if names else [])]
    split = [
        (
            SILVER,
            [t for t in tables if t not in names],
            [p for p in places if p.topic not in topics],
        ),
        (STREAMS, [t for t in tables if t in names], [p for p in places if p.topic in topics]),
    ]
    return [(keeper, some, entries) for keeper, some, entries in split if some or entries]


def _await(
    keeper: Keeper, desk: Desk, request: Request, is_late: Callable[[], bool], wait_s: float
) -> Answer:
    while (answer := desk.answer_to(request.id)) is None:
        if is_late():
            raise HeadwaterError(
                f"the service `{keeper.service}` has not answered within {wait_s:g} s",
                detail=f"the request {request.id} waits in the lake and will be carried out",
                hint=f"see `./headwater status {keeper.service}`",
            )
        time.sleep(_POLL_S)
    return answer


def entry_name(place: Place) -> str:
    """Return the name of an entry: TOPIC/PARTITION/OFFSET."""
    return f"{place.topic}/{place.partition}/{place.offset}"


def place_named(name: str) -> Place | None:
    """Parse the name of an entry; None if it is not one."""
    topic, _, rest = name.partition("/")
    partition, _, offset = rest.partition("/")
    if topic and partition.isdecimal() and offset.isdecimal():
        return Place(topic, int(partition), int(offset))
    return None


def _named(lake: Lake, what: Sequence[str]) -> tuple[list[str], list[Place]]:
    """Split names into tables and places.

    If places are named too, tables are replaced by the places of their open entries.
    Raises: HeadwaterError if a table or place has no open entry.
    """
    places = [place for name in what if (place := place_named(name)) is not None]
    tables = [name for name in what if place_named(name) is None]
    entries = _read(lake, tables, resolved=False)
    known = set(entries["table_name"].to_pylist())
    for table in tables:
        if table not in known:
            raise HeadwaterError(f"there is no open entry of table `{table}` in quarantine")
    if not places:
        return tables, []
    every = _read(lake, [], resolved=False).select(["topic", "partition", "offset", "table_name"])
    owners = {
        Place(r["topic"], r["partition"], r["offset"]): r["table_name"] for r in every.to_pylist()
    }
    for place in places:
        if place not in owners:
            raise HeadwaterError(f"there is no open entry `{entry_name(place)}` in quarantine")
    places += [place for place, table in owners.items() if table in tables]
    return sorted({owners[place] for place in places}), places


def _table(lake: Lake, keeper: Keeper) -> Any:
    try:
        return lake.table(keeper.table).to_pyarrow_dataset()
    except TableNotFoundError:
        return None


def _read(lake: Lake, tables: Sequence[str], *, resolved: bool) -> pa.Table:
    """Read the entries of all keepers with the columns _READ."""
    parts = [_read_one(lake, keeper, resolved=resolved) for keeper in (SILVER, STREAMS)]
    table = pa.concat_tables([part.select(_READ) for part in parts if len(part)] or parts[:1])
    if tables:
        names = table["table_name"].cast(pa.string())
        table = table.filter(pc.is_in(names, value_set=pa.array(list(tables), pa.string())))
    return table


def _read_one(lake: Lake, keeper: Keeper, *, resolved: bool) -> pa.Table:
    dataset = _table(lake, keeper)
    if dataset is None:
        return pa.table({name: pa.array([], pa.string()) for name in _READ})
    rows = dataset.to_table(columns=[name for name in _READ if name in dataset.schema.names])
    if "status" not in rows.column_names:  # made by a previous release
        rows = rows.append_column("status", pa.nulls(len(rows), pa.string()))
    status = pc.fill_null(rows["status"].cast(pa.string()), OPEN)
    if not resolved:
        rows = rows.filter(pc.equal(status, OPEN))
    return rows


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return json.dumps({"hex": value.hex()})
