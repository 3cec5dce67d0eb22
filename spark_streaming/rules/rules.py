"""Matches a contract file with its table: the rules, treatments and targets that a batch applies."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow.types as arrow

from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.contract.contract_files import (
    ColumnRules,
    ContractFile,
    ContractFileError,
    Evolution,
    Problem,
    Scalar,
    near,
)
from spark_streaming.contract.kinds import ARRAY
from spark_streaming.contract.types import Column
from spark_streaming.rules.expectations import ConditionError, Rule, checked


@dataclass(frozen=True)
class Reference:
    """Values of `column` must exist in column `target` of another source table, in silver's version."""

    name: str
    action: str
    column: str
    schema: str
    table: str
    target: str


@dataclass(frozen=True)
class Uniqueness:
    """No two rows share the values of `columns`; rows with a NULL in one of them are not judged."""

    name: str
    action: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class TableRules:
    """All that a contract file says of one table, ready to apply; picklable.

    Args:
        rules: conditions on a row by itself.
        references, uniques: rules that compare with other rows of silver.
        empty_to_null: text columns whose '' becomes NULL before the rules are applied.
        masks: column → mask, applied after the rules.
        freshness_s: the target, in seconds; None if there is none.
    """

    schema: str
    table: str
    rules: tuple[Rule, ...] = ()
    references: tuple[Reference, ...] = ()
    uniques: tuple[Uniqueness, ...] = ()
    empty_to_null: tuple[str, ...] = ()
    masks: dict[str, str] = field(default_factory=dict)
    freshness_s: float | None = None
    evolution: Evolution = field(default_factory=Evolution)

    @property
    def treats_values(self) -> bool:
        """Whether silver's values differ from the source's."""
        return bool(self.empty_to_null or self.masks)

    def actions(self) -> dict[str, str]:
        """Rule name → warn | quarantine | fail."""
        named: list[Rule | Reference | Uniqueness] = []
        named += [*self.rules, *self.references, *self.uniques]
        return {rule.name: rule.action for rule in named}


def no_rules(schema: str, table: str) -> TableRules:
    """The rules of a table without a contract file."""
    return TableRules(schema, table)


def bind(file: ContractFile, contract: Contract) -> TableRules:
    """Check a contract file against the table's columns.

    Raises: ContractFileError with every mistake: unknown columns, wrong types, conditions that
        are not SQL on these columns, duplicate names.
    """
    binder = _Binder(file, contract.with_texts(file.content.texts))
    binder.bind()
    if binder.problems:
        raise ContractFileError(sorted(binder.problems, key=lambda problem: problem.line))
    return TableRules(
        contract.schema,
        contract.table,
        tuple(binder.rules),
        tuple(binder.references),
        tuple(binder.uniques),
        tuple(binder.empty_to_null),
        binder.masks,
        file.content.freshness,
        file.content.evolution,
    )


class _Binder:
    def __init__(self, file: ContractFile, contract: Contract) -> None:
        self.file = file
        self.contract = contract
        self.problems: list[Problem] = []
        self.rules: list[Rule] = []
        self.references: list[Reference] = []
        self.uniques: list[Uniqueness] = []
        self.empty_to_null: list[str] = []
        self.masks: dict[str, str] = {}

    def bind(self) -> None:
        """Check the whole file and collect its mistakes in `problems`."""
        for name, given in self.file.content.columns.items():
            column = self.contract.by_name.get(name)
            if column is None:
                hint = near(name, self.contract.by_name)
                if name in self.contract.left_out:
                    hint = "it is generated, or `column_exclude` leaves it out: silver has no such column"
                self._wrong(("columns", name), f"there is no column `{name}` in the table", hint)
                continue
            self._column(column, given)
        for number, unique in enumerate(self.file.content.unique):
            unknown = [c for c in unique.columns if c not in self.contract.by_name]
            if unknown:
                message = f"there is no column `{unknown[0]}` in the table"
                hint = near(unknown[0], self.contract.by_name)
                self._wrong(("unique", number, "columns"), message, hint)
                continue
            name = "_".join([*unique.columns, "unique"])
            self.uniques.append(Uniqueness(name, unique.action, tuple(unique.columns)))
        for number, rule in enumerate(self.file.content.expectations):
            place = ("expectations", number, "condition")
            self._rule(place, rule.name, rule.action, rule.condition)
        self._names()
        self._lookups()
        if self.uniques and self.contract.is_keyless:
            message = f"table {self.contract.table} has no key, so it may hold equal rows"
            self._wrong(("unique",), message, "uniqueness needs a table with a key")
        if self.file.content.history and self.contract.is_keyless:
            message = f"table {self.contract.table} has no key: of equal rows nothing tells which one changed"
            self._wrong(("history",), message, "a history needs a table with a key")

    def _column(self, column: Column, given: ColumnRules) -> None:
        place = ("columns", column.name)
        name, action = column.name, given.action or "quarantine"
        shown = quoted(name)
        if given.not_null:
            self._rule((*place, "not_null"), f"{name}_not_null", action, f"{shown} IS NOT NULL")
        if given.not_empty:
            condition = self._not_empty(column)
            if condition:
                self._rule((*place, "not_empty"), f"{name}_not_empty", action, condition)
        terms = list(self._terms(column, given))
        if terms:
            key = "min" if given.min is not None else "max"
            self._rule((*place, key), f"{name}_range", action, " AND ".join(terms))
        if given.values is not None:
            literals = [self._literal(column, "values", value) for value in given.values]
            if all(literals):
                condition = f"{shown} IN ({', '.join(map(str, literals))})"
                self._rule((*place, "values"), f"{name}_values", action, condition)
        if given.unique:
            self.uniques.append(Uniqueness(f"{name}_unique", given.action or "warn", (name,)))
        if given.references:
            *schema, table, target = given.references.split(".")
            where = schema[0] if schema else self.contract.schema
            reference = Reference(
                f"{name}_references", given.action or "warn", name, where, table, target
            )
            self.references.append(reference)
        self._treatment(column, given)

    def _treatment(self, column: Column, given: ColumnRules) -> None:
        place = ("columns", column.name)
        if given.type == "text" and not column.may_be_text:
            message = f"column `{column.name}` ({column.pg_type}) cannot be carried as text"
            hint = "silver's type for it holds every value; see docs/types.md"
            if column.kind == ARRAY:
                hint = "lists of real or double precision stay lists"
            self._wrong((*place, "type"), message, hint)
        if given.empty == "null":
            if not column.is_text:
                self._wrong(
                    (*place, "empty"), f"column `{column.name}` is no text: {column.pg_type}"
                )
            elif column.name in self.contract.key:
                self._wrong((*place, "empty"), f"column `{column.name}` is part of the key")
            else:
                self.empty_to_null.append(column.name)
        if given.mask is None:
            return
        if given.mask != "redact" and not column.value_kind.maskable:
            message = f"`{given.mask}` is for texts; column `{column.name}` is {column.pg_type}"
            self._wrong((*place, "mask"), message, "use `redact`, which makes it NULL")
        elif given.mask != "hash" and column.name in self.contract.key:
            message = f"column `{column.name}` is part of the key: several rows would become one"
            self._wrong((*place, "mask"), message, "use `hash`, which keeps different values apart")
        else:
            self.masks[column.name] = given.mask

    def _not_empty(self, column: Column) -> str | None:
        shown = quoted(column.name)
        if column.is_text:
            return f"{shown} <> ''"
        if arrow.is_binary(column.arrow_type):
            return f"octet_length({shown}) > 0"
        if column.kind == ARRAY:
            return f"len({shown}) > 0"
        message = f"column `{column.name}` cannot be empty: {column.pg_type}"
        self._wrong(("columns", column.name, "not_empty"), message, "use `not_null`")
        return None

    def _terms(self, column: Column, given: ColumnRules) -> Iterator[str]:
        for key, sign, value in (("min", ">=", given.min), ("max", "<=", given.max)):
            if value is not None and (literal := self._literal(column, key, value)):
                yield f"{quoted(column.name)} {sign} {literal}"

    def _literal(self, column: Column, key: str, value: Scalar) -> str | None:
        """A TOML value as an SQL literal of the column's type; None, with a problem, if unfit."""
        kind = column.arrow_type
        is_number = arrow.is_integer(kind) or arrow.is_floating(kind) or arrow.is_decimal(kind)
        if arrow.is_boolean(kind) and isinstance(value, bool):
            return str(value).upper()
        if is_number and isinstance(value, (int, float)) and not isinstance(value, bool):
            if math.isfinite(value):
                return repr(value)
        elif column.is_text and isinstance(value, str):
            return "'" + value.replace("'", "''") + "'"
        elif arrow.is_date(kind) and type(value) is dt.date:
            return f"DATE '{value.isoformat()}'"
        elif arrow.is_timestamp(kind) and isinstance(value, dt.date):
            zone = "TIMESTAMPTZ" if kind.tz else "TIMESTAMP"
            return f"{zone} '{value.isoformat()}'"
        message = f"{value!r} is not a value of column `{column.name}` ({column.pg_type})"
        hint = "write a number" if is_number else "write an expectation with a CAST"
        self._wrong(("columns", column.name, key), message, hint)
        return None

    def _rule(self, place: tuple[str | int, ...], name: str, action: str, condition: str) -> None:
        try:
            columns = checked(condition, self.contract.data_schema)
        except ConditionError as error:
            self._wrong(place, f"condition `{condition.strip()}`: {error}", error.hint)
            return
        self.rules.append(Rule(name, action, condition, columns))

    def _names(self) -> None:
        taken: set[str] = set()
        named: list[Rule | Reference | Uniqueness] = []
        named += [*self.references, *self.uniques, *self.rules]
        for rule in named:
            if rule.name in taken:
                places = [
                    ("expectations", number)
                    for number, given in enumerate(self.file.content.expectations)
                    if given.name == rule.name
                ]
                place: tuple[str | int, ...] = places[-1] if places else ("unique",)
                self._wrong(place, f"two rules are named `{rule.name}`", "give one another name")
            taken.add(rule.name)

    def _lookups(self) -> None:
        """Bind the rules that compare with other rows of silver; they compare masked values."""
        compared: list[tuple[str, tuple[str, ...]]] = []
        compared += [(r.name, (r.column,)) for r in self.references]
        compared += [(u.name, u.columns) for u in self.uniques]
        for name, columns in compared:
            for column in columns:
                if self.contract.by_name[column].kind == "array":
                    message = f"rule `{name}` cannot look up column `{column}`, an array"
                    self._wrong(("columns", column), message)
                if self.masks.get(column, "hash") != "hash":
                    message = f"rule `{name}` reads column `{column}`, whose mask hides differences"
                    self._wrong(
                        ("columns", column, "mask"), message, "use `hash`, or leave the rule"
                    )

    def _wrong(self, place: tuple[str | int, ...], message: str, hint: str = "") -> None:
        self.problems.append(self.file.problem(place, message, hint))
