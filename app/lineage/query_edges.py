"""Finds, in a view's SELECT, the columns from which the view's columns are made, with sqlglot.

A column's value comes from every column that its expression names, also within window functions,
conditions and subqueries. A column that only decides which rows appear (WHERE, JOIN … ON, GROUP BY,
HAVING, ORDER BY) has an edge of kind `filter` to the view as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from app.lineage.edge import COPY, DERIVED, FILTER, LAKE, UNKNOWN, Edge, Place

CATALOG = "lake"
DEFAULT_SCHEMA = "silver"
_FILTERS = ("where", "group", "having", "qualify", "order", "distinct")
REASON_CHARS_MAX = 200
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # sqlglot underlines text that it cannot parse
Schemas = Mapping[str, Mapping[str, Mapping[str, str]]]  # schema → table → column → type


class Made(NamedTuple):
    """The origins of an output column. `copied`: the column is its one origin, unchanged."""

    origins: frozenset[Place]
    copied: bool


class _Unreadable(Exception):
    """The statement has a part whose columns cannot be determined."""


def view_edges(
    name: str, select: str, columns: Sequence[str] | None, reads: Iterable[str], schemas: Schemas
) -> list[Edge]:
    """Return the edges that end in a view.

    Args:
        name, reads: `schema.table`.
        columns: the view's columns in order, as Trino names them; None: as the statement names them.
        schemas: the columns of the tables and views that it may read.
    Returns: if the statement cannot be parsed, edges of kind `unknown` from each of `reads`, with the
        reason.
    """
    by = f"view {name}"
    try:
        walk = _Walk(select, schemas)
        made = walk.outputs(walk.root)
        columns = columns if columns is not None else [column for column, _ in made]
        if len(made) != len(columns):
            raise _Unreadable(f"it has {len(columns)} columns, {len(made)} were found")
        edges = [
            Edge(origin, Place(LAKE, name, column), COPY if one.copied else DERIVED, by)
            for column, (_, one) in zip(columns, made, strict=True)
            for origin in sorted(one.origins)
        ]
        target = Place(LAKE, name)
        edges += [Edge(one, target, FILTER, by) for one in sorted(walk.filters())]
    except Exception as error:  # noqa: BLE001 - whatever a parser meets in a statement stops no other
        text = str(error) if isinstance(error, (SqlglotError, _Unreadable)) else repr(error)
        why = " ".join(_COLOURS.sub("", text).split())[:REASON_CHARS_MAX]
        return [Edge(Place(LAKE, one), Place(LAKE, name), UNKNOWN, by, why) for one in reads]
    # A table without a named column (`count(*)`) is read, too.
    named = {edge.origin.name for edge in edges}
    unnamed = sorted(set(walk.tables()) - named)
    return edges + [Edge(Place(LAKE, one), target, FILTER, by) for one in unnamed]


def expression_columns(expression: str) -> set[str]:
    """Return the columns that an expression names, in lower case; none if it cannot be parsed."""
    try:
        parsed = parse_one(expression, dialect="trino")
    except SqlglotError:
        return set()
    return {column.name.lower() for column in parsed.find_all(exp.Column)}


class _Walk:
    """One statement with its scopes; results are cached by scope."""

    def __init__(self, select: str, schemas: Schemas) -> None:
        parsed = parse_one(select, dialect="trino")
        for identifier in parsed.find_all(exp.Identifier):
            identifier.set("this", str(identifier.this).lower())  # Trino ignores case
        for table in parsed.find_all(exp.Table):
            if table.catalog == CATALOG:
                table.set("catalog", None)
        qualified = qualify(
            parsed,
            dialect="trino",
            db=None,
            schema={schema: dict(tables) for schema, tables in schemas.items()},
            validate_qualify_columns=False,
            quote_identifiers=False,
            identify=False,
        )
        root = build_scope(qualified)
        if root is None:
            raise _Unreadable("it is no query")
        self.root: Scope = root
        self._schemas = schemas
        self._known: dict[int, list[tuple[str, Made]]] = {}
        # A query that refers to itself uses a scope that is filled in elsewhere.
        self._filled = {id(scope.expression): scope for scope in root.traverse()}

    def tables(self) -> Iterator[str]:
        """Yield each table that the statement reads."""
        for scope in self.root.traverse():
            for source in scope.sources.values():
                if isinstance(source, exp.Table):
                    yield _name(source)

    def outputs(self, scope: Scope) -> list[tuple[str, Made]]:
        """Return the output columns of a scope, in order."""
        scope = self._filled.get(id(scope.expression), scope)
        known = self._known.get(id(scope))
        if known is None:
            self._known[id(scope)] = []
            known = self._known[id(scope)] = self._outputs(scope)
        return known

    def _outputs(self, scope: Scope) -> list[tuple[str, Made]]:
        expression = scope.expression
        if isinstance(expression, exp.SetOperation):
            return self._union([self.outputs(one) for one in scope.set_operation_scopes])
        if isinstance(expression, (exp.Unnest, exp.Values, exp.Lateral)):
            return self._rows(scope)
        if not isinstance(expression, exp.Select):
            return self._nested(scope)
        found = []
        for each in expression.selects:
            if each.is_star:
                raise _Unreadable("the columns of `*` are not known")
            found.append((each.alias_or_name, self._made(each.unalias(), scope)))
        return found

    @staticmethod
    def _union(parts: list[list[tuple[str, Made]]]) -> list[tuple[str, Made]]:
        if len({len(part) for part in parts}) != 1:
            raise _Unreadable("the parts of a union differ in their columns")
        return [
            (
                same[0][0],
                Made(
                    frozenset().union(*(made.origins for _, made in same)),
                    all(made.copied for _, made in same),
                ),
            )
            for same in zip(*parts, strict=True)
        ]

    def _nested(self, scope: Scope) -> list[tuple[str, Made]]:
        inner = [*scope.subquery_scopes, *scope.derived_table_scopes, *scope.set_operation_scopes]
        if len(inner) != 1:
            raise _Unreadable(f"it has an unknown part: {type(scope.expression).__name__}")
        return self.outputs(inner[0])

    def _rows(self, scope: Scope) -> list[tuple[str, Made]]:
        """The columns of UNNEST and VALUES: those of its expressions in order, if their number is equal."""
        expression = scope.expression
        alias = expression.args.get("alias")
        names = [one.name for one in alias.columns] if alias is not None else []
        parent = scope.parent or scope
        given = expression.expressions
        if isinstance(expression, exp.Lateral):
            inner = [*scope.subquery_scopes, *scope.derived_table_scopes]
            if len(inner) != 1:
                raise _Unreadable("it has an unknown LATERAL")
            made = self.outputs(inner[0])
            return [(name, one) for name, (_, one) in zip(names or dict(made), made, strict=True)]
        if isinstance(expression, exp.Values):
            rows = [row.expressions for row in given if isinstance(row, exp.Tuple)]
            given = [exp.Tuple(expressions=list(column)) for column in zip(*rows, strict=True)]
            given = given or [exp.Tuple(expressions=[])]
        each = [Made(self._made(one, parent).origins, False) for one in given]
        if len(names) != len(each):  # a map, or each row, becomes several columns
            each = [Made(frozenset().union(*(one.origins for one in each)), False)] * len(names)
        offset = expression.args.get("offset")
        if isinstance(offset, exp.Identifier):
            return [*zip(names, each, strict=True), (offset.name, Made(frozenset(), False))]
        return list(zip(names, each, strict=True))

    def _made(self, expression: exp.Expr, scope: Scope) -> Made:
        """The origins of an expression within a scope."""
        if isinstance(expression, exp.Column):
            return self._column(expression, scope)
        origins: set[Place] = set()
        within = {id(one.expression): one for one in scope.subquery_scopes}
        for node in expression.walk(prune=lambda one: isinstance(one, exp.Query)):
            if isinstance(node, exp.Column):
                origins |= self._column(node, scope).origins
            elif isinstance(node, exp.Window) and node.alias:
                for one in scope.expression.args.get("windows") or ():
                    if one.name == node.alias:
                        origins |= self._made(one, scope).origins
            elif isinstance(node, exp.Query):
                inner = within.get(id(node.unnest())) or within.get(id(node))
                if inner is None:
                    raise _Unreadable("it has a subquery whose columns are not known")
                for _, made in self.outputs(inner):
                    origins |= made.origins
        return Made(frozenset(origins), False)

    def _column(self, column: exp.Column, scope: Scope) -> Made:
        at: Scope | None = scope
        while at is not None:
            source = at.sources.get(column.table)
            if isinstance(source, exp.Table):
                return self._of_table(source, column)
            if isinstance(source, Scope):
                for name, made in self.outputs(source):
                    if name == column.name:
                        return made
                raise _Unreadable(f"`{column.sql()}` is no column that is known")
            at = at.parent
        if not column.table:  # a parameter of a lambda, or an output column in ORDER BY
            if _is_parameter(column):
                return Made(frozenset(), False)
            for name, made in self.outputs(scope):
                if name == column.name:
                    return made
        raise _Unreadable(f"`{column.sql()}` is no column that is known")

    def _of_table(self, table: exp.Table, column: exp.Column) -> Made:
        schema, _, name = _name(table).partition(".")
        if column.name not in self._schemas.get(schema, {}).get(name, {}):
            raise _Unreadable(f"`{schema}.{name}` has no column `{column.name}`")
        return Made(frozenset([Place(LAKE, f"{schema}.{name}", column.name)]), True)

    def filters(self) -> set[Place]:
        """Return the columns that decide which rows appear, their order or their groups."""
        found: set[Place] = set()
        for scope in self.root.traverse():
            if not isinstance(scope.expression, exp.Select):
                continue
            parts = [scope.expression.args.get(name) for name in _FILTERS]
            parts += [join.args.get("on") for join in scope.expression.args.get("joins") or ()]
            for part in parts:
                if isinstance(part, exp.Expr):
                    found |= self._made(part, scope).origins
        return found


def _name(table: exp.Table) -> str:
    return f"{table.db or DEFAULT_SCHEMA}.{table.name}"


def _is_parameter(column: exp.Column) -> bool:
    """Whether a name is a parameter of a lambda."""
    at = column.find_ancestor(exp.Lambda)
    while at is not None:
        if column.name in {one.name for one in at.expressions}:
            return True
        at = at.find_ancestor(exp.Lambda)
    return False
