"""The reference of tables in SQL other than the source's: columns of `ops`, views, streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from app.catalog.catalogue import SCHEMA as MEANING
from app.catalog.views import View, read_views
from app.docs.columns import COLUMNS, STREAM_COLUMNS, TABLES
from app.docs.markdown import code, page, table
from app.erase.receipt import SCHEMA as ERASURES
from app.errors import HeadwaterError
from app.jobs.job_runs_table import SCHEMA as JOB_RUNS
from app.lineage.lineage_table import SCHEMA as LINEAGE
from app.verify.verification_table import SCHEMA as VERIFICATION
from spark_streaming.ops.breaches import SCHEMA as EXPECTATIONS
from spark_streaming.ops.incident_rows import SCHEMA as INCIDENTS
from spark_streaming.ops.ledger import SCHEMA as LEDGER
from spark_streaming.ops.schema_changes import SCHEMA as SCHEMA_CHANGES
from spark_streaming.quarantine.quarantine import SCHEMA as QUARANTINE
from spark_streaming.streams.audit.audit_stream import audit_stream
from spark_streaming.streams.stream_contract import SHIPPED, read_streams

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {
    "ops.ledger": LEDGER,
    "ops.quarantine": QUARANTINE,
    "ops.expectations": EXPECTATIONS,
    "ops.schema_changes": SCHEMA_CHANGES,
    "ops.incidents": INCIDENTS,
    "ops.verification": VERIFICATION,
    "ops.job_runs": JOB_RUNS,
    "ops.meaning": MEANING,
    "ops.lineage": LINEAGE,
    "ops.erasures": ERASURES,
}
_INTRODUCTION = """
Trino's catalog is `lake`. Schema `silver` has one table for each captured source table, `reports` has views
over the demo store, and `ops` says how the pipeline itself does. `./headwater sql` begins in `silver`:
`SELECT * FROM orders`, `SELECT * FROM ops.freshness`. All three schemas are read-only. Schema `history` has the tables
whose contract file asks for one: [History](../history.md) lists their columns.

A silver table has the source's columns; [Types](../types.md) says what each type becomes. Three columns follow
them:
"""
_METADATA = (
    ("_lsn", "bigint", "The source's log position of the row's newest change, in bytes."),
    ("_committed_at", "timestamp(3) with time zone", "When that change was committed."),
    ("_merged_at", "timestamp(3) with time zone", "When silver merged it."),
)
_HEADS = ("column", "type", "meaning")
_TRINO = {
    "string": "varchar",
    "int64": "bigint",
    "int32": "integer",
    "bool": "boolean",
    "double": "double",
    "binary": "varbinary",
    "date32[day]": "date",
    "timestamp[us, tz=UTC]": "timestamp(3) with time zone",
    "list<item: string>": "array(varchar)",
    "list<item: int64>": "array(bigint)",
    "list<item: timestamp[us, tz=UTC]>": "array(timestamp(3) with time zone)",
}


def tables_page() -> str:
    """Every table of `ops`, every view of `ops` and `reports`, and the streams of the stack."""
    views = read_views(ROOT / "trino" / "views")
    parts = [table(_HEADS, ((code(n), t, m) for n, t, m in _METADATA)), "## Tables of ops"]
    for name in SCHEMAS:
        parts += _table_chapter(name)
    parts += _audit()
    for title, schema in (("Views of ops", "ops."), ("Views of reports", "reports.")):
        parts.append(f"## {title}")
        for view in sorted(views, key=lambda each: each.name):
            if view.name.startswith(schema):
                parts += _view_chapter(view)
    return page("Tables", _INTRODUCTION, *parts, "## Streams", *_streams())


def _table_chapter(name: str) -> Iterator[str]:
    yield f"### {name}"
    yield _meaning(TABLES, name, name)
    yield table(_HEADS, _columns(name, SCHEMAS[name]))


def _audit() -> Iterator[str]:
    stream = audit_stream()
    yield f"### {stream.name}"
    yield (
        "One row for each question to Trino, and the minute's sums of the stack's own; with "
        f"`audit = true` in the profile ([Governance](../governance.md#audit)). Kept for "
        f"{stream.contract.retention_days} days."
    )
    declared = stream.contract.columns
    yield table(
        _HEADS,
        (
            (code(f.name), trino_type(f.type), declared[f.name].description)
            if f.name in declared
            else (code(f.name), *STREAM_COLUMNS[f.name])
            for f in stream.schema()
        ),
    )


def _columns(name: str, schema: pa.Schema) -> Iterator[tuple[str, str, str]]:
    for field in schema:
        meaning = _meaning(COLUMNS[name], field.name, f"column {field.name} of {name}")
        yield code(field.name), trino_type(field.type), meaning
    if unknown := set(COLUMNS[name]) - set(schema.names):
        raise HeadwaterError(
            f"app/docs/columns.py describes {min(unknown)} of {name}, which does not exist",
            hint="remove its description",
        )


def trino_type(kind: pa.DataType) -> str:
    """A column's type as Trino shows it."""
    found = _TRINO.get(str(kind).replace("element", "item"))
    if found is None:
        raise HeadwaterError(
            f"app/docs/tables_page.py knows no Trino type for {kind}", hint="add it"
        )
    return found


def _meaning(meanings: dict[str, str], key: str, what: str) -> str:
    if key not in meanings:
        raise HeadwaterError(
            f"{what} has no description", hint="add a sentence to app/docs/columns.py"
        )
    return meanings[key]


def _view_chapter(view: View) -> Iterator[str]:
    path = ROOT / "trino" / "views" / f"{view.name.split('.')[1]}.sql"
    yield f"### {view.name}"
    reads = ", ".join(code(each) for each in view.reads)
    yield f"{view.question} Reads {reads}."
    yield table(("column", "meaning"), ((code(n), text) for n, text in view_columns(path)))


def view_columns(path: Path) -> list[tuple[str, str]]:
    """The columns that a view's file lists in its header: name, and type with meaning."""
    lines = path.read_text(encoding="utf-8").split("-- columns:\n")[1].splitlines()
    found: list[tuple[str, str]] = []
    for line in lines:
        if not line.startswith("--"):
            break
        begins = re.match(r"^--   (\w+)\s+(.*)$", line)
        if begins and not line.startswith("--      "):
            found.append((begins[1], begins[2]))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.removeprefix('--').strip()}")
    return found


def _streams() -> Iterator[str]:
    yield (
        "Events that came [by API](../../app/intake/README.md), append-only, in schema `silver`. "
        "These two are the stack's own; others are declared in files. Each has these columns beside its own:"
    )
    yield table(_HEADS, ((code(n), t, m) for n, (t, m) in STREAM_COLUMNS.items()))
    streams, _ = read_streams([SHIPPED / "streams"])
    for name, stream in sorted(streams.items()):
        yield f"### silver.{name}"
        text = stream.contract.description
        kept = stream.contract.retention_days
        yield f"{text[:1].upper()}{text[1:]}. Kept for {kept} days."
        own = [field for field in stream.schema() if field.name not in STREAM_COLUMNS]
        yield table(("column", "type"), ((code(f.name), trino_type(f.type)) for f in own))
