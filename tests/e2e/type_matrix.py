"""Writes docs/types.md from the table that drives the test: `python -m tests.e2e.type_matrix`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.type_cases import TYPES, Type

FILE = Path(__file__).resolve().parents[2] / "docs" / "types.md"

HEAD = """\
# Types: what each becomes, and what that loses

<!-- Made by `python -m tests.e2e.type_matrix > docs/types.md` from tests/support/type_cases.py. -->

Each Postgres type with the type of its column in silver and in Trino, its extreme values, and what cannot be kept.
All of it was run: each value below is a row of the source that is read by the first snapshot, inserted, updated to
and deleted, in a table with a key and in one without. Then type and value are compared in silver and in Trino, and
`./headwater verify` says equal (`tests/e2e/test_type_matrix.py`).

- **Nothing is silently lost.** A value that its column in silver cannot hold (*to quarantine*) is
  never rounded, cut or NULL: its row goes to `ops.quarantine`, with the column and the reason, its event
  is kept whole (`./headwater quarantine show`), and in bronze, as every event is. `./headwater preflight` and `up` say
  which columns could hold such values. A later value that fits brings the row back.
- **Or it is text, by choice.** `type = "text"` for the column in the table's
  [contract file](../spark_streaming/contracts/README.md) makes it a `string` of what the source
  prints: nothing of these types goes to quarantine then (but those days of 1582). It is for
  `numeric`, `date`, `timestamp`, `timestamptz` and lists other than of `real` and `double precision`;
  the others have no value that silver cannot hold. The values marked so below were tried both ways.
- **NULL stays NULL**, of every type, also over a column's DEFAULT; json's `null` is a text.
- **string** holds what the source prints as the column's text (`TimeZone` UTC, `DateStyle` ISO,
  `IntervalStyle` postgres): `cast` it back, or compute with it in SQL where that is possible.
- Types with a year or version in brackets were tried where the source has it. Where an extension
  is not in the embedded server, the row says *not tried*.
"""

TAIL = """
## Beside the types

| what | becomes |
|---|---|
| generated (stored) columns | left out: Postgres does not put them into the log; preflight names them |
| identity columns | as their type |
| names: quoted, mixed case, reserved words, other scripts, 63 bytes | columns as they are, but `_` for a blank and for each of <code>,;{}()=.`"</code>, line ends and tabs; tables in lower case, with their letters, digits and emoji of any script, and `_` for whatever else is no `_` |
| columns named `_lsn`, `_committed_at`, `_merged_at` | `_lsn_2` and so on; `_op`, `_guard_lsn`, `_keep_…`: `col_op` and so on |
| columns whose names differ in case only (`id`, `ID`) | the table is left out, and preflight names them: the connector stops at such a table |
| partitioned tables | one table, the root's; a row that moves between partitions is a delete and an insert |
| inherited tables | each a table of its own, with the rows that are its own (`FROM ONLY`) |
| unlogged, temporary and foreign tables | not captured; preflight names them |
| tables with a column of type `refcursor` | left out, and preflight names them: a snapshot would open cursors by the values, and stop |
| a value of 20 MB | held; an event beyond 64 MB stops the capture with a message that says so |
| a text that reads `__debezium_unavailable_value` | taken for a large value that an update left out |
"""


def document() -> str:
    """The whole of docs/types.md."""
    lines = ["| Postgres | silver (Delta) | Trino | tried | loses |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_cells(each))} |" for each in TYPES]
    return HEAD + "\n" + "\n".join(lines) + "\n" + TAIL


def _cells(each: Type) -> Iterator[str]:
    yield _code(each.ddl) + _condition(each)
    yield _code(each.silver)
    yield _code(each.trino)
    yield ", ".join(_code(value.label) for value in each.held)
    lost = [each.loses] if each.loses else []
    if each.refused:
        values = ", ".join(_code(text) for text in each.refused)
        lost.append(f"to quarantine: {values}")
    yield "; ".join(lost) or "nothing"


def _condition(each: Type) -> str:
    if each.extension:
        tried = "" if each.tried else ", not tried"
        return f" ({each.extension}{tried})"
    return f" ({each.server})" if each.server else ""


def _code(text: str) -> str:
    # A bar ends a cell even inside of code, but not inside of HTML.
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    if plain == text and "`" not in text:
        return f"`{text}`" if text.strip() == text else f"<code>{text}</code>"
    return f"<code>{plain.replace('`', '&#96;')}</code>"


if __name__ == "__main__":
    sys.stdout.write(document())
