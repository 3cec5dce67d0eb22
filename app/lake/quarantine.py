"""Quarantine from outside of the jobs that keep it: reads their tables, and asks them for changes.

Each job writes a table of its own (`silver` of captured tables, `streams` of streams) and nobody
else does: a replay or discard is an object under `requests/`, which the job carries out between two
batches and answers.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.settings import Settings
from spark_streaming.held import Place
from spark_streaming.lake import QUARANTINE, STREAM_QUARANTINE, Lake
from spark_streaming.quarantine import OPEN
from spark_streaming.requests import FOLDER, STREAM_FOLDER, Answer, Desk, Request, new_id

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
    """(at most `limit` entries, newest first, as COLUMNS; how many there are)."""
    found = _read(Lakehouse(settings).lake, tables, resolved=resolved)
    order = [("quarantined_at", "descending"), ("topic", "ascending"), ("offset", "descending")]
    rows = found.sort_by(order).slice(0, limit).to_pylist()
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
    ], len(found)


def entry_of(settings: Settings, name: str) -> dict[str, Any]:
    """One entry whole, its event as text where it is UTF-8. Raises: HeadwaterError."""
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
    raw = {part: row.pop(f"raw_{part}") for part in ("key", "value", "headers")}
    row["status"] = row["status"] or OPEN
    return {
        "entry": name,
        **row,
        "raw_key": _text(raw["key"]),
        "raw_value": _text(raw["value"]),
        "raw_headers": raw["headers"],
    }


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
    """Ask the jobs that keep them to replay or discard entries, and wait for what became of them.

    Args:
        what: silver tables and entries.
        values: what the one entry that is named is replayed with: column -> text as Postgres
            prints it, None for NULL; its other columns, and the entry, stay as they are.
    Returns: rows as OUTCOME_COLUMNS. Raises: HeadwaterError where nothing is named, or where no
        answer comes within `wait_s`.
    """
    if not what and not everything:
        hint = "name tables or entries of `quarantine list`, or give --all"
        raise HeadwaterError(f"nothing is named to {action}", hint=hint)
    lake = Lakehouse(settings).lake
    tables, places = _named(lake, what)
    edits: tuple[tuple[Place, dict[str, str | None]], ...] = ()
    if values is not None:
        if len(what) != 1 or len(places) != 1 or not values:
            hint = "`quarantine replay ENTRY --set column=value`"
            raise HeadwaterError("other values are for one entry", hint=hint)
        edits = ((places[0], dict(values)),)
    deadline = clock() + wait_s
    asked = []
    for keeper, some, entries in _shared_out(lake, tables, places):
        if edits and keeper is not SILVER:
            hint = "send a mended event with a new key, and discard this one"
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


def keepers_of(settings: Settings, what: Sequence[str]) -> list[str]:
    """The services that a resolution of these tables and entries needs."""
    lake = Lakehouse(settings).lake
    return [keeper.service for keeper, _, _ in _shared_out(lake, *_named(lake, what))]


def _shared_out(
    lake: Lake, tables: list[str], places: list[Place]
) -> list[tuple[Keeper, list[str], list[Place]]]:
    """Which keeper is asked for which tables and places; without any, for all that it has."""
    streams = _read_one(lake, STREAMS, resolved=False)
    names = set(streams["table_name"].to_pylist())
    topics = set(streams["topic"].to_pylist())
    if not tables and not places:
        # Who has nothing is not asked: it may not run.
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
    """An entry as users name it."""
    return f"{place.topic}/{place.partition}/{place.offset}"


def place_named(name: str) -> Place | None:
    """The entry of a name; None where it is none."""
    topic, _, rest = name.partition("/")
    partition, _, offset = rest.partition("/")
    if topic and partition.isdecimal() and offset.isdecimal():
        return Place(topic, int(partition), int(offset))
    return None


def _named(lake: Lake, what: Sequence[str]) -> tuple[list[str], list[Place]]:
    """Tables and places. A table's open entries by name, where entries are named beside it."""
    places = [place for name in what if (place := place_named(name)) is not None]
    tables = [name for name in what if place_named(name) is None]
    found = _read(lake, tables, resolved=False)
    known = set(found["table_name"].to_pylist())
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
    """What all keepers hold, as _READ."""
    found = [_read_one(lake, keeper, resolved=resolved) for keeper in (SILVER, STREAMS)]
    table = pa.concat_tables([one.select(_READ) for one in found if len(one)] or found[:1])
    if tables:
        names = table["table_name"].cast(pa.string())
        table = table.filter(pc.is_in(names, value_set=pa.array(list(tables), pa.string())))
    return table


def _read_one(lake: Lake, keeper: Keeper, *, resolved: bool) -> pa.Table:
    dataset = _table(lake, keeper)
    if dataset is None:
        return pa.table({name: pa.array([], pa.string()) for name in _READ})
    found = dataset.to_table(columns=[name for name in _READ if name in dataset.schema.names])
    if "status" not in found.column_names:  # made by an earlier release
        found = found.append_column("status", pa.nulls(len(found), pa.string()))
    status = pc.fill_null(found["status"].cast(pa.string()), OPEN)
    if not resolved:
        found = found.filter(pc.equal(status, OPEN))
    return found


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return json.dumps({"hex": value.hex()})
