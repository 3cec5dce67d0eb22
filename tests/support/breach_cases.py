"""Each kind of contract rule with each action: a table for every pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from spark_streaming.contract.contract_files import Action

COLUMNS = "id int PRIMARY KEY, v int, w int, s text"
GOOD = "(1, 1, 1, 'a')"


@dataclass(frozen=True)
class Rule:
    """One kind of rule.

    Args:
        name: as in quarantine, `ops.expectations` and reasons.
        lines: of the contract file; the action follows the last one.
        broken_by: VALUES of a row that breaks it; the row GOOD does not.
    """

    name: str
    lines: str
    broken_by: str


RULES = {
    "not_null": Rule("v_not_null", "[columns.v]\nnot_null = true", "(2, NULL, 1, 'a')"),
    "not_empty": Rule("s_not_empty", "[columns.s]\nnot_empty = true", "(2, 1, 1, '')"),
    "min": Rule("v_range", "[columns.v]\nmin = 1", "(2, 0, 1, 'a')"),
    "max": Rule("v_range", "[columns.v]\nmax = 9", "(2, 10, 1, 'a')"),
    "values": Rule("s_values", '[columns.s]\nvalues = ["a", "b"]', "(2, 1, 1, 'c')"),
    "references": Rule(
        "v_references", '[columns.v]\nreferences = "movies.movie_id"', "(2, -7, 1, 'a')"
    ),
    "unique": Rule("v_unique", "[columns.v]\nunique = true", "(2, 1, 2, 'a')"),
    "unique_pair": Rule("v_w_unique", '[[unique]]\ncolumns = ["v", "w"]', "(2, 1, 1, 'b')"),
    "expectation": Rule(
        "w_is_not_less",
        '[[expectations]]\nname = "w_is_not_less"\ncondition = "w >= v"',
        "(2, 5, 4, 'a')",
    ),
}
ACTIONS: tuple[str, ...] = get_args(Action)


@dataclass(frozen=True)
class Breach:
    """One kind of rule with one action, and a table of its own."""

    kind: str
    action: str

    @property
    def table(self) -> str:
        """The table's name, in the source and in silver."""
        return f"br_{self.kind}_{self.action}"

    @property
    def rule(self) -> Rule:
        """The broken rule."""
        return RULES[self.kind]

    def contract_file(self) -> str:
        """The table's contract file."""
        return f'{self.rule.lines}\naction = "{self.action}"\n'


BREACHES = tuple(Breach(kind, action) for kind in RULES for action in ACTIONS)
