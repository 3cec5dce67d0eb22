"""Writes a first contract file of a table from the constraints in the source's catalog."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from spark_streaming.capture_choice import EVERYTHING, Choice
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.evolution import POLICIES
from spark_streaming.contract.source_catalog import read_contract
from spark_streaming.rules.expectations import ConditionError, checked

_CONSTRAINTS = """
select con.conname as name, con.contype::text as kind,
       pg_get_expr(con.conbin, con.conrelid) as expression,
       array(select a.attname::text from unnest(con.conkey) with ordinality k (attnum, place)
             join pg_attribute a on a.attrelid = con.conrelid and a.attnum = k.attnum
             order by k.place) as columns,
       tn.nspname as target_schema, t.relname as target,
       array(select a.attname::text from unnest(con.confkey) with ordinality k (attnum, place)
             join pg_attribute a on a.attrelid = con.confrelid and a.attnum = k.attnum
             order by k.place) as target_columns
from pg_constraint con
join pg_class c on c.oid = con.conrelid join pg_namespace n on n.oid = c.relnamespace
left join pg_class t on t.oid = con.confrelid left join pg_namespace tn on tn.oid = t.relnamespace
where n.nspname = %(schema)s and c.relname = %(table)s and con.contype in ('c', 'f', 'u')
order by con.contype, con.conname
"""

_LABELS = """
select a.attname::text as column, array_agg(e.enumlabel::text order by e.enumsortorder) as labels
from pg_attribute a join pg_class c on c.oid = a.attrelid
join pg_namespace n on n.oid = c.relnamespace join pg_enum e on e.enumtypid = a.atttypid
where n.nspname = %(schema)s and c.relname = %(table)s and a.attnum > 0 and not a.attisdropped
group by a.attname
"""


@dataclass
class _Found:
    """The constraints in the catalog: column → lines of its section; further sections."""

    columns: dict[str, list[str]] = field(default_factory=dict)
    unique: list[list[str]] = field(default_factory=list)
    checks: list[tuple[str, str, str]] = field(default_factory=list)  # name, condition, problem


def contract_text(
    connection: psycopg.Connection[Any], schema: str, table: str, choice: Choice = EVERYTHING
) -> str:
    """The text of a new contract file; its active rules change no row and stop no table.

    Raises: psycopg.Error when the catalog cannot be read, LookupError for an unknown table.
    """
    contract = read_contract(connection, schema, table, choice=choice)
    if contract is None:
        raise LookupError(f"no table {schema}.{table}")
    return "\n".join(_lines(contract, _enforced(connection, contract))) + "\n"


def _enforced(connection: psycopg.Connection[Any], contract: Contract) -> _Found:
    names = {column.source_name: column.name for column in contract.columns}
    of_table = {"schema": contract.schema, "table": contract.table}
    found = _Found()
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        constraints = cursor.execute(_CONSTRAINTS, of_table).fetchall()
        labels = cursor.execute(_LABELS, of_table).fetchall()
    for row in labels:
        if row["column"] in names:
            line = f"values = [{', '.join(map(_text, row['labels']))}]"
            found.columns.setdefault(names[row["column"]], []).append(line)
    for row in constraints:
        columns = [names.get(name) for name in row["columns"]]
        known = [name for name in columns if name is not None]
        if row["kind"] == "c":
            found.checks.append(_check(row["name"], row["expression"], contract))
        elif len(known) != len(columns):
            continue
        elif row["kind"] == "u" and contract.key and known != list(contract.key):
            found.unique.append(known)
        elif row["kind"] == "f" and len(known) == 1:
            target = ".".join((row["target_schema"], row["target"], row["target_columns"][0]))
            if target.count(".") == 2:
                line = f"references = {_text(target)}"
                found.columns.setdefault(known[0], []).append(line)
    return found


def _check(name: str, expression: str, contract: Contract) -> tuple[str, str, str]:
    plain = re.sub(r"[^a-z0-9_]+", "_", name.lower())[:60].strip("_")
    rule = plain if plain[:1].isalpha() else f"check_{plain}"
    try:
        checked(expression, contract.data_schema)
    except ConditionError as error:
        return rule, expression, str(error)
    return rule, expression, ""


def _lines(contract: Contract, found: _Found) -> Iterable[str]:
    table = f"{contract.schema}.{contract.table}"
    yield f"# Contract of {table}: checks and masks beyond the source's catalog."
    yield "# Written from the catalog; refine it by hand, then run `./headwater contract check`."
    yield "# All keys: spark_streaming/contracts/README.md"
    yield ""
    yield '# description = "…"   # without it, the source\'s COMMENT ON TABLE counts'
    yield '# owner = "…"'
    yield '# domain = "…"'
    yield "# tags = []"
    yield '# freshness = "5s"   # the target: source commit to silver'
    yield ""
    for column in contract.columns:
        key = " key" if column.name in contract.key else ""
        facts = f"{column.pg_type}{'' if column.nullable else ' not null'}{key}"
        lines = found.columns.get(column.name)
        if lines is None:
            yield f"# [columns.{_key(column.name)}]   # {facts}"
            continue
        yield f"[columns.{_key(column.name)}]   # {facts}"
        yield from lines
        yield 'action = "warn"   # the source enforces it already'
        yield ""
    yield ""
    for columns in found.unique:
        yield "[[unique]]"
        yield f"columns = [{', '.join(map(_text, columns))}]"
        yield 'action = "warn"'
        yield ""
    for name, condition, problem in found.checks:
        mark = "# " if problem else ""
        if problem:
            yield f"# The source's CHECK `{name}` does not read the same here: {problem}"
        yield f"{mark}[[expectations]]"
        yield f"{mark}name = {_text(name)}"
        yield f"{mark}condition = {_text(condition)}"
        yield f'{mark}action = "warn"'
        yield ""
    yield "# [evolution]"
    for kind, policies in POLICIES.items():
        yield f'# {kind} = "{policies.default}"   # {" | ".join(policies.allowed)}'


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    """A TOML basic string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
