"""Random changes of tables' definitions; each gets a table and returns whether it changed something."""

from __future__ import annotations

from psycopg import sql

from tests.support.ddl_tables import Column, Statements, Table, names_of
from tests.support.ddl_values import KEY_TYPES, MAKE, SMALL_DEFAULTS, WIDER, ddl

TABLES_MIN, COLUMNS_MAX = 5, 40
STRANGE = ("select", "Mixed Case", "ünï", "a b,c", "dot.ted", 'quo"te', "_lsn", "op", "before")


class Definitions(Statements):
    """Every kind of change of a definition that an application may make."""

    def create_table(self, shape: str = "") -> bool:
        shape = shape or self._rng.choice(["plain", "composite", "bag", "partitioned", "strange"])
        self._serial += 1
        strange = shape == "strange"
        name = f"{self._rng.choice(STRANGE)} {self._serial}" if strange else f"rnd_{self._serial}"
        columns = {}
        for number in range(self._rng.randint(3, 9)):
            # Not "... 6", because later columns have such names.
            column = f"{STRANGE[number]} c{number}" if strange else f"c{number}"
            columns[column] = Column(self._rng.choice(list(MAKE)))
        key = {"composite": 2, "bag": 0}.get(shape, 1)
        for column in list(columns)[:key]:
            columns[column] = Column(self._rng.choice(KEY_TYPES))
        if shape == "partitioned":
            columns["c0"] = Column("int")
        table = Table(name, columns, list(columns)[:key], shape == "partitioned")
        parts = [
            sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(ddl(c.kind)))
            for n, c in columns.items()
        ]
        if table.key:
            parts.append(sql.SQL("PRIMARY KEY ({})").format(names_of(table.key)))
        tail = "PARTITION BY RANGE (c0)" if table.partitioned else ""
        self._run(
            sql.SQL("CREATE TABLE {} ({}) {}").format(
                table.identifier, sql.SQL(", ").join(parts), sql.SQL(tail)
            )
        )
        if table.partitioned:
            for suffix, bounds in (
                ("low", "FOR VALUES FROM (MINVALUE) TO (0)"),
                ("rest", "DEFAULT"),
            ):
                part = sql.Identifier(f"{name}_{suffix}")
                self._run(sql.SQL("CREATE TABLE {} PARTITION OF {} {}").format(
                    part, table.identifier, sql.SQL(bounds)))  # fmt: skip
        if not table.key:
            self._alter(table, "REPLICA IDENTITY FULL")
        self._tables[name] = table
        return True

    def drop_table(self, table: Table) -> bool:
        if len(self._tables) <= TABLES_MIN:
            return False
        self._run(sql.SQL("DROP TABLE {}").format(table.identifier))
        del self._tables[table.name]
        return True

    def add_column(self, table: Table) -> bool:
        return self._add_column(table, list(MAKE), with_default=False)

    def add_column_with_default(self, table: Table) -> bool:
        return self._add_column(table, list(SMALL_DEFAULTS), with_default=True)

    def _add_column(self, table: Table, kinds: list[str], *, with_default: bool) -> bool:
        if len(table.columns) >= COLUMNS_MAX:
            return False
        self._serial += 1
        kind = self._rng.choice(kinds)
        name = f"{self._rng.choice(STRANGE)} {self._serial}"
        default = f"DEFAULT {_default(kind)}" if with_default else ""
        not_null = "NOT NULL" if with_default and self._rng.random() < 0.3 else ""
        self._alter(table, "ADD COLUMN {} " + f"{ddl(kind)} {default} {not_null}", name)
        table.columns[name] = Column(kind, with_default)
        return True

    def drop_column(self, table: Table) -> bool:
        free = table.free()
        if len(free) < 2:
            return False
        name = self._rng.choice(free)
        self._alter(table, "DROP COLUMN {} CASCADE", name)
        del table.columns[name]
        return True

    def rename_column(self, table: Table) -> bool:
        free = table.free()
        if not free:
            return False
        name = self._rng.choice(free)
        self._serial += 1
        self._alter(table, "RENAME COLUMN {} TO {}", name, f"renamed {self._serial}")
        table.columns[f"renamed {self._serial}"] = table.columns.pop(name)
        return True

    def widen(self, table: Table) -> bool:
        return self._retype(table, WIDER)

    def widen_float(self, table: Table) -> bool:
        return self._retype(table, {"real": "double precision"})

    def _retype(self, table: Table, wider: dict[str, str]) -> bool:
        able = [n for n, c in table.columns.items() if c.kind in wider]
        if table.partitioned:  # a partition key keeps its type
            able = [name for name in able if name not in table.key]
        if not able:
            return False
        name = self._rng.choice(able)
        kind = wider[table.columns[name].kind]
        self._alter(table, "ALTER COLUMN {} TYPE " + ddl(kind), name)
        table.columns[name].kind = kind
        return True

    def set_default(self, table: Table) -> bool:
        able = [n for n in table.free() if table.columns[n].kind in SMALL_DEFAULTS]
        if not able:
            return False
        name = self._rng.choice(able)
        default = _default(table.columns[name].kind)
        self._alter(table, "ALTER COLUMN {} SET DEFAULT " + default, name)
        table.columns[name].default = True
        return True

    def drop_default(self, table: Table) -> bool:
        able = [n for n in table.free() if table.columns[n].default]
        if not able:
            return False
        name = self._rng.choice(able)
        self._alter(table, "ALTER COLUMN {} DROP DEFAULT", name)
        table.columns[name].default = False
        return True

    def set_not_null(self, table: Table) -> bool:
        free = table.free()
        if not free:
            return False
        # For a row without a key the connector may then send another value instead of NULL: see
        # `debezium/README.md`.
        change = self._rng.choice(["SET", "DROP"]) if table.key else "DROP"
        self._alter(table, "ALTER COLUMN {} " + f"{change} NOT NULL", self._rng.choice(free))
        return True

    def add_constraint(self, table: Table) -> bool:
        self._serial += 1
        name = f"chk_{self._serial}"
        column = self._rng.choice(list(table.columns))
        self._alter(table, "ADD CONSTRAINT {} CHECK (length({}::text) < 100000)", name, column)
        table.checks.append(name)
        return True

    def drop_constraint(self, table: Table) -> bool:
        if not table.checks:
            return False
        name = table.checks.pop()
        self._alter(table, "DROP CONSTRAINT IF EXISTS {}", name)
        return True

    def add_enum_value(self, _: Table) -> bool:
        self._serial += 1
        label = f"label {self._serial}"
        self._run(sql.SQL("ALTER TYPE rnd_mood ADD VALUE {}").format(sql.Literal(label)))
        self._new_labels.append(label)  # usable only after this transaction
        return True


def _default(kind: str) -> str:
    # Braces are doubled in the text of a statement with placeholders.
    return SMALL_DEFAULTS[kind].replace("{", "{{").replace("}", "}}")
