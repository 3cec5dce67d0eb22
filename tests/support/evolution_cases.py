"""Each kind of change of a table under each policy: a table for every pair.

The pairs come from `POLICIES`, so every new kind or policy needs its table here.
"""

from __future__ import annotations

from dataclasses import dataclass

from spark_streaming.contract.evolution import POLICIES

COLUMNS = "id int PRIMARY KEY, code int NOT NULL, v int, t varchar(5)"
TOUCH = "UPDATE {t} SET t = t || '.' WHERE id = 1"


@dataclass(frozen=True)
class Shape:
    """One kind of change of any table; `{t}` is the table's name.

    Args:
        ddl: the statements that change the table.
        row: VALUES of a row that is inserted afterwards; "" for none.
        more, values: columns besides COLUMNS, and their values in the first two rows.
        before: statements that run before the table is made.
        touch: an older row that changes afterwards; "" for none.
    """

    ddl: tuple[str, ...]
    row: str
    more: str = ""
    values: str = ""
    before: str = ""
    touch: str = TOUCH


SHAPES = {
    "add_column": Shape(("ALTER TABLE {t} ADD n int DEFAULT 7",), "(3, 3, 3, 'c', 8)"),
    "drop_column": Shape(("ALTER TABLE {t} DROP v",), "(3, 3, 'c')"),
    "rename_column": Shape(("ALTER TABLE {t} RENAME v TO w",), "(3, 3, 3, 'c')"),
    "widen_type": Shape(
        (
            "ALTER TABLE {t} ALTER v TYPE bigint, ALTER t TYPE varchar(40), "
            "ALTER f TYPE double precision, ALTER n TYPE numeric(12,4)",
        ),
        f"(3, 3, {2**40}, 'wider than before', 0.1, 12345678.1234)",
        more=", f real, n numeric(6,2)",
        values=", 0.1, 1.5",
    ),
    "incompatible_change": Shape(("ALTER TABLE {t} ALTER v TYPE text",), "(3, 3, 'three', 'c')"),
    "key_change": Shape(
        ("ALTER TABLE {t} DROP CONSTRAINT {t}_pkey, ADD PRIMARY KEY (code)",), "(3, 3, 3, 'c')"
    ),
    "table_added": Shape((f"CREATE TABLE {{t}} ({COLUMNS})",), "(1, 1, 1, 'a')"),
    "table_dropped": Shape(("DROP TABLE {t}",), "", touch=""),
    "table_recreated": Shape(
        ("DROP TABLE {t}", "CREATE TABLE {t} (id int PRIMARY KEY, w text)"),
        "(7, 'new')",
        touch="UPDATE {t} SET w = w || '.'",
    ),
    "table_truncated": Shape(("TRUNCATE {t}",), "(3, 3, 3, 'c')"),
    "replica_identity": Shape(("ALTER TABLE {t} REPLICA IDENTITY FULL",), "(3, 3, 3, 'c')"),
    "enum_value": Shape(
        ("ALTER TYPE {t}_mood ADD VALUE 'calm'",),
        "(3, 3, 3, 'c', 'calm')",
        more=", m {t}_mood",
        values=", 'sad'",
        before="CREATE TYPE {t}_mood AS ENUM ('sad', 'happy')",
    ),
}


@dataclass(frozen=True)
class Cell:
    """One kind of change under one policy, with its own table."""

    kind: str
    policy: str

    @property
    def table(self) -> str:
        """The table's name, in the source and in silver."""
        return f"ev_{self.kind}_{self.policy}"

    @property
    def shape(self) -> Shape:
        """The change."""
        return SHAPES[self.kind]

    @property
    def is_there_before(self) -> bool:
        """Whether the table has rows in silver before the change."""
        return self.kind != "table_added"

    def making(self) -> list[str]:
        """The statements that make the table, with two rows."""
        if not self.is_there_before:
            return []
        shape = self.shape
        made = [shape.before, f"CREATE TABLE {{t}} ({COLUMNS}{shape.more})"]
        for number in (1, 2):
            made.append(
                f"INSERT INTO {{t}} VALUES ({number}, {number}, {number}, 'a'{shape.values})"
            )
        return [statement.replace("{t}", self.table) for statement in made if statement]

    def ddl(self) -> list[str]:
        """The statements of the change, with the table's name."""
        return [statement.replace("{t}", self.table) for statement in self.shape.ddl]

    def rows_afterwards(self) -> list[str]:
        """The statements that change rows once the table has changed."""
        inserted = self.shape.row and f"INSERT INTO {{t}} VALUES {self.shape.row}"
        both = [inserted, self.shape.touch]
        return [statement.replace("{t}", self.table) for statement in both if statement]

    def contract_file(self, policy: str | None = None) -> str:
        """The table's contract file, with its policy or another one."""
        return f'[evolution]\n{self.kind} = "{policy or self.policy}"\n'


CELLS = tuple(
    Cell(kind, policy) for kind, policies in POLICIES.items() for policy in policies.allowed
)


def cells(*policies: str, but: tuple[str, ...] = ()) -> list[Cell]:
    """The pairs with these policies, without some kinds."""
    return [cell for cell in CELLS if cell.policy in policies and cell.kind not in but]
