"""Which columns of tables each column of a view comes from, by its SQL; and so which class it has.

A view runs with its owner's rights, so masks on tables do not hold inside it: its own columns have the strictest
class of their origins. If a part cannot be parsed, its origins are all columns that the view reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from app.access.column_memory import CLASSES, strictest
from spark_streaming.contract.contract_files import Classification

DIALECT = "trino"
_WORD = re.compile(r"\w+")
Column = tuple[str, str]  # (`schema.table`, column), in lower case
_DEPTH_MAX = 100


class _Unreadable(Exception):
    """The origin of a column is unknown."""


@dataclass
class _Known:
    """The tables' columns, and the origins of scopes' outputs that are worked out already."""

    tables: Mapping[str, Sequence[str]]
    outputs: dict[tuple[int, str], set[Column]] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewQuery:
    """A view: the tables that it reads, its query, and the classes in its header."""

    reads: Sequence[str]
    select: str
    declared: Mapping[str, Classification]
    releases: frozenset[str] = frozenset()


def view_classes(
    view: ViewQuery, columns: Sequence[str], tables: Mapping[str, Mapping[str, Classification]]
) -> dict[str, Classification]:
    """Return the class of each of a view's `columns`.

    Args:
        tables: the classes of the columns of all tables and views, by `schema.name`.
    A released column has the class that the header declares, else `internal`; a declared class
    makes any other only stricter.
    """
    kinds: dict[str, Classification] = {}
    read = _named(view, tables)
    everything = [kind for name in read for kind in tables[name].values()]
    if not tables.keys() >= set(view.reads):
        everything.append(CLASSES[-1])  # the tables that it reads are unknown
    found = _remembered(view.select, tuple((name, tuple(tables[name])) for name in read))
    for column in columns:
        said = [view.declared[column]] if column in view.declared else []
        if column in view.releases:
            kinds[column] = strictest(said)
            continue
        sources = found.get(column)
        inherited = (
            everything if sources is None else [tables[table][name] for table, name in sources]
        )
        kinds[column] = strictest([*inherited, *said])
    return kinds


def _named(view: ViewQuery, tables: Iterable[str]) -> list[str]:
    """The tables that the header or the query names; of the query, every word that may be one."""
    words = set(_WORD.findall(view.select.lower()))
    return sorted(n for n in tables if n in view.reads or n.partition(".")[2] in words)


@lru_cache(maxsize=500)
def _remembered(
    select: str, tables: tuple[tuple[str, tuple[str, ...]], ...]
) -> dict[str, set[Column] | None]:
    return origins(select, dict(tables))


def origins(select: str, tables: Mapping[str, Sequence[str]]) -> dict[str, set[Column] | None]:
    """Return, for each column of a query, the table columns from which its values are computed.

    Args:
        tables: the columns of all that it may read, by `schema.name`.
    Returns: None for a column that may come from anywhere; an unreadable query has no columns.
    """
    try:
        tree = sqlglot.parse_one(select, dialect=DIALECT)
        qualified = qualify(
            tree, schema=_schema(tables), dialect=DIALECT, quote_identifiers=False,
            validate_qualify_columns=True, identify=False,
        )  # fmt: skip
        scope = build_scope(qualified)
        if scope is None or not isinstance(qualified, exp.Query):
            return {}
        names = [name.lower() for name in qualified.named_selects]
        if any(one.args.get("recursive") for one in qualified.find_all(exp.With)):
            return {}
        known = _Known(tables)
        return {name: _of(scope, name, known) for name in names}
    except (SqlglotError, RecursionError, ValueError, KeyError, AttributeError):
        return {}  # of whatever the parser does not know, nothing is assumed


def _schema(tables: Mapping[str, Sequence[str]]) -> dict[str, object]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name, columns in tables.items():
        schema, _, table = name.partition(".")
        found.setdefault(schema, {})[table] = dict.fromkeys(columns, "varchar")
    return dict(found)


def _of(scope: Scope, name: str, known: _Known) -> set[Column] | None:
    try:
        return _output(scope, name, known, 0)
    except _Unreadable:
        return None


def _output(scope: Scope, name: str, known: _Known, depth: int) -> set[Column]:
    """The origins of a scope's output column; each is worked out once."""
    key = id(scope), name
    if key not in known.outputs:
        known.outputs[key] = _worked_out(scope, name, known, depth)
    return known.outputs[key]


def _worked_out(scope: Scope, name: str, known: _Known, depth: int) -> set[Column]:
    if depth > _DEPTH_MAX:
        raise _Unreadable
    query = scope.expression
    if isinstance(query, exp.SetOperation):
        at = [one.lower() for one in query.named_selects].index(name)
        found: set[Column] = set()
        if len(scope.set_operation_scopes) != 2:
            raise _Unreadable
        for side in scope.set_operation_scopes:
            if not isinstance(side.expression, exp.Query):
                raise _Unreadable
            found |= _output(side, side.expression.named_selects[at].lower(), known, depth + 1)
        return found
    if not isinstance(query, exp.Select):
        # UNNEST, VALUES, LATERAL: each of its columns may come from any of its expressions.
        return _inside(scope, query, known, depth + 1)
    chosen = [one for one in query.selects if one.alias_or_name.lower() == name]
    if len(chosen) != 1:
        raise _Unreadable
    return _inside(scope, chosen[0], known, depth + 1)


def _inside(scope: Scope, part: exp.Expr, known: _Known, depth: int) -> set[Column]:
    """The origins of all columns that an expression names, those of queries within it too."""
    if depth > _DEPTH_MAX or any(isinstance(one, exp.Star) for one in _stars(part)):
        raise _Unreadable
    found: set[Column] = set()
    inner = {id(one.expression): one for one in scope.subquery_scopes}
    for query in part.find_all(exp.Select, exp.SetOperation):
        if _within_a_query(query, part):
            continue  # the one around it has it
        if id(query) not in inner:
            raise _Unreadable
        for name in query.named_selects:
            found |= _output(inner[id(query)], name.lower(), known, depth + 1)
    for column in part.find_all(exp.Column):
        if not _within_a_query(column, part):
            found |= _column(scope, column, known, depth)
    return found


def _stars(part: exp.Expr) -> list[exp.Expr]:
    """The `*` outside of count."""
    return [one for one in part.find_all(exp.Star) if not isinstance(one.parent, exp.Count)]


def _within_a_query(one: exp.Expr, part: exp.Expr) -> bool:
    above = one.parent if one is not part else None
    while above is not None and above is not part:
        if isinstance(above, (exp.Select, exp.SetOperation)):
            return True
        above = above.parent
    return False


def _column(scope: Scope, column: exp.Column, known: _Known, depth: int) -> set[Column]:
    alias, name = column.table, column.name.lower()
    if not alias:
        return _lambda_argument(column)
    at: Scope | None = scope
    while at is not None and alias not in at.sources:
        at = at.parent
    if at is None:
        raise _Unreadable
    source = at.sources[alias]
    if isinstance(source, Scope):
        return _output_of(at, source, name, known, depth)
    table = f"{source.db}.{source.name}".lower()
    if name not in known.tables.get(table, ()):
        raise _Unreadable
    return {(table, name)}


def _output_of(at: Scope, source: Scope, name: str, known: _Known, depth: int) -> set[Column]:
    if isinstance(source.expression, exp.Query):
        return _output(source, name, known, depth + 1)
    return _inside(at, source.expression, known, depth + 1)


def _lambda_argument(column: exp.Column) -> set[Column]:
    """The argument of a lambda, whose origins are in the same expression."""
    above = column.parent
    while above is not None:
        if isinstance(above, exp.Lambda) and column.name in {one.name for one in above.expressions}:
            return set()
        above = above.parent
    raise _Unreadable
