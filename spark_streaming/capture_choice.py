"""Which tables and columns of the source are captured: patterns over their names, as a profile gives them.

A pattern is `schema.table`, for columns `schema.table.column`. `*` is any run of characters, `?` is one
character, every other character is itself; case counts. Patterns are separated by commas. A name with a dot
or a comma in it has `?` in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

ALL_TABLES = "*.*"
_OWN_SCHEMA = "headwater."  # always captured, whole
_SPECIAL = {"*": "(?s:.*)", "?": "(?s:.)"}  # to Python and to Java
_WRONG = re.compile(r"[\s\[\]{}()^$|\\+\"']")


class ChoiceKeys(Protocol):
    """The settings that choose: `JobKeys`, or a profile."""

    @property
    def table_include(self) -> str: ...
    @property
    def table_exclude(self) -> str: ...
    @property
    def column_exclude(self) -> str: ...


@dataclass(frozen=True)
class Choice:
    """The captured tables and columns; without settings, every table with all columns.

    Args:
        include, exclude: patterns of tables; one is captured that an `include` has, and no `exclude`.
        columns: patterns of the columns that are left out.
    """

    include: tuple[str, ...] = (ALL_TABLES,)
    exclude: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, keys: ChoiceKeys) -> Choice:
        """Return the choice of these settings."""
        return cls(
            patterns(keys.table_include, parts=2),
            patterns(keys.table_exclude, parts=2),
            patterns(keys.column_exclude, parts=3),
        )

    def has(self, schema: str, table: str) -> bool:
        """Whether a table is captured."""
        name = f"{schema}.{table}"
        return _any(self.include, name) and not _any(self.exclude, name)

    def left_out(self, schema: str, table: str, columns: Iterable[str]) -> tuple[str, ...]:
        """Return those of a table's columns that are not captured."""
        if not self.columns:
            return ()
        return tuple(c for c in columns if _any(self.columns, f"{schema}.{table}.{c}"))

    def without_match(
        self, tables: Mapping[tuple[str, str], Sequence[str]]
    ) -> list[tuple[str, str]]:
        """Return (setting, pattern) of each pattern that nothing in the source fits.

        Args:
            tables: (schema, table) → its columns, all that could be captured.
        """
        names = [".".join(name) for name in tables]
        columns = [f"{'.'.join(name)}.{c}" for name, found in tables.items() for c in found]
        by_setting = (
            ("table_include", [p for p in self.include if p != ALL_TABLES], names),
            ("table_exclude", self.exclude, names),
            ("column_exclude", self.columns, columns),
        )
        return [
            (setting, pattern)
            for setting, given, known in by_setting
            for pattern in given
            if not any(_fits(pattern, name) for name in known)
        ]

    def naming(self, column: str) -> str:
        """Return the pattern that leaves out a column, `schema.table.column`; empty if none does."""
        return next((pattern for pattern in self.columns if _fits(pattern, column)), "")

    def column_expressions(self) -> list[str]:
        """Return the regular expressions of Java that match the full names of columns left out."""
        # Debezium ignores case by default. What is not a letter, a digit or `_` is written by its number.
        return ["(?-i)(?!headwater\\x{2e})" + "".join(map(_java, given)) for given in self.columns]


EVERYTHING = Choice()


def patterns(text: str, *, parts: int) -> tuple[str, ...]:
    """Return the patterns of a setting. Raises: ValueError that names the one that is none.

    Args:
        parts: names in each, 2 for tables and 3 for columns.
    """
    form = "schema.table.column" if parts == 3 else "schema.table"
    found = tuple(one.strip() for one in text.split(",") if one.strip())
    for one in found:
        wrong = _WRONG.search(one)
        if wrong is not None:
            raise ValueError(
                f"`{one}` has `{wrong.group()}`: a pattern has names, `*` (any characters) and `?` "
                "(one character), and is no regular expression"
            )
        if len(one.split(".")) != parts or not all(one.split(".")):
            raise ValueError(f"`{one}` is not of the form `{form}`")
    return found


def _any(given: Iterable[str], name: str) -> bool:
    return any(_fits(pattern, name) for pattern in given)


def _fits(pattern: str, name: str) -> bool:
    return not name.startswith(_OWN_SCHEMA) and _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_SPECIAL.get(c) or re.escape(c) for c in pattern))


def _java(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    plain = character.isalnum() or character == "_"
    return character if plain else f"\\x{{{ord(character):x}}}"
