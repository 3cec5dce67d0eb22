"""Reads contract files, in which users add rules, masks and policies to a table's contract.

There is one file per table, `<schema>.<table>.toml`. This module reads it and reports the mistakes
that the file alone shows; `rules.bind` then checks it against the table's columns.
"""

from __future__ import annotations

import datetime as dt
import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import tomli
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from spark_streaming.contract.toml_lines import key_lines, line_of

Action = Literal["warn", "quarantine", "fail"]
Mask = Literal["hash", "redact", "partial"]
Classification = Literal["public", "internal", "personal", "sensitive"]
Policy = Literal["evolve", "quarantine", "fail", "new_version"]
Scalar = bool | int | float | str | dt.datetime | dt.date
FILE_BYTES_MAX = 1 << 20

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Problem:
    """One mistake in a contract file: where, what is wrong, and what to write instead."""

    file: Path
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}: {self.message}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class ContractFileError(Exception):
    """A contract file is wrong; `problems` has each mistake with its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


def _seconds(value: object) -> object:
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", value) if isinstance(value, str) else None
    )
    if found is None or found.group(2) not in _UNITS:
        raise ValueError('a duration is a number with a unit, e.g. "500ms", "5s" or "10min"')
    return float(found.group(1)) * _UNITS[found.group(2)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ColumnRules(_Closed):
    """`[columns.NAME]`: rules and treatment of one column.

    `type = "text"` keeps the column as the text that Postgres prints, so that it holds every value.
    `action` applies to the column's rules. Its default is `quarantine`, but `warn` for `references`
    and `unique`, which depend on other rows.
    """

    description: str = ""
    classification: Classification | None = None
    type: Literal["text"] | None = None
    not_null: bool = False
    not_empty: bool = False
    min: Scalar | None = None
    max: Scalar | None = None
    values: list[Scalar] | None = Field(default=None, min_length=1)
    references: str | None = Field(default=None, pattern=r"^[^.]+(\.[^.]+){1,2}$")
    unique: bool = False
    action: Action | None = None
    empty: Literal["keep", "null"] = "keep"
    mask: Mask | None = None


class Expectation(_Closed):
    """`[[expectations]]`: an SQL condition that each row must not make false."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    condition: str = Field(min_length=1)
    action: Action = "quarantine"
    description: str = ""


class UniqueColumns(_Closed):
    """`[[unique]]`: no two rows share the values of these columns (a business key)."""

    columns: list[str] = Field(min_length=1)
    action: Action = "warn"


Seconds = Annotated[float, BeforeValidator(_seconds)]


class TableCondition(_Closed):
    """`[[conditions]]`: limits for one number about the whole table.

    `value` is an SQL aggregate that Trino computes over the rows of `where`; NULL breaks no limit.
    `max_fall` is the greatest fall allowed, as a share of the highest value within `over`. The
    service `metrics` watches conditions; they never keep silver from merging.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    value: str = Field(min_length=1)
    where: str | None = Field(default=None, min_length=1)
    min: float | None = None
    max: float | None = None
    max_fall: float | None = Field(default=None, gt=0, lt=1)
    over: Annotated[Seconds, Field(ge=60, le=86_400)] = 3_600.0
    every: Annotated[Seconds, Field(ge=10, le=86_400)] = 60.0
    description: str = ""

    @model_validator(mode="after")
    def _bounded(self) -> TableCondition:
        if self.min is None and self.max is None and self.max_fall is None:
            raise ValueError("a condition needs `min`, `max` or `max_fall`")
        if "over" in self.model_fields_set and self.max_fall is None:
            raise ValueError("`over` has an effect only together with `max_fall`")
        return self


class Evolution(_Closed):
    """`[evolution]`: the policies for changes of the source's table; None means the default."""

    add_column: Policy | None = None
    drop_column: Policy | None = None
    rename_column: Policy | None = None
    widen_type: Policy | None = None
    incompatible_change: Policy | None = None
    key_change: Policy | None = None
    table_added: Policy | None = None
    table_dropped: Policy | None = None
    table_recreated: Policy | None = None
    table_truncated: Policy | None = None
    replica_identity: Policy | None = None
    enum_value: Policy | None = None


class TimeTravel(_Closed):
    """`[time_travel]`: which old versions stay readable: for `days`, within `max_mb` of old files.

    Without `max_mb` they may take three times the bytes of the newest version (at least 64 MB).
    """

    days: int = Field(default=7, ge=0, le=366)
    max_mb: int | None = Field(default=None, ge=0)


class Refinements(_Closed):
    """The content of a contract file.

    `freshness` is the target in seconds, written "5s". `history` keeps `lake.history.<table>`: of
    several changes of a row in one transaction "each", or the "last".
    """

    description: str = ""
    owner: str = ""
    domain: str = ""
    tags: list[str] = Field(default_factory=list)
    freshness: Seconds | None = None
    history: Literal["each", "last"] | None = None
    columns: dict[str, ColumnRules] = Field(default_factory=dict)
    expectations: list[Expectation] = Field(default_factory=list)
    unique: list[UniqueColumns] = Field(default_factory=list)
    conditions: list[TableCondition] = Field(default_factory=list)
    evolution: Evolution = Evolution()
    time_travel: TimeTravel = TimeTravel()

    @property
    def texts(self) -> frozenset[str]:
        """The columns that are to be carried as text."""
        return frozenset(name for name, rules in self.columns.items() if rules.type == "text")

    @field_validator("conditions")
    @classmethod
    def _named_once(cls, value: list[TableCondition]) -> list[TableCondition]:
        names = [condition.name for condition in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two conditions are named `{name}`")
        return value


@dataclass(frozen=True)
class ContractFile:
    """A file that was read: its table, its content, and the line of each key."""

    path: Path
    schema: str
    table: str
    content: Refinements
    lines: dict[tuple[str | int, ...], int]

    def problem(self, place: Sequence[str | int], message: str, hint: str = "") -> Problem:
        """Return a mistake at the key `place`, e.g. ("columns", "email", "mask")."""
        return Problem(self.path, line_of(self.lines, place), message, hint)


def file_name(schema: str, table: str) -> str:
    """Return a table's file name; characters other than letters, digits and `_-` become %XX."""
    return ".".join(quote(part, safe=" ").replace(".", "%2E") for part in (schema, table)) + ".toml"


def folders_of(setting: str) -> list[Path]:
    """Return the folders of a setting, separated as in PATH; a table's first file counts."""
    return [Path(part).expanduser() for part in setting.split(os.pathsep) if part]


def find_files(folders: Iterable[Path]) -> tuple[dict[tuple[str, str], Path], list[Problem]]:
    """Return the contract files of these folders: (schema, table) → the file that counts.

    Also returns a problem for each `.toml` file whose name does not name a table.
    """
    found: dict[tuple[str, str], Path] = {}
    problems: list[Problem] = []
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            schema, dot, table = path.name.removesuffix(".toml").partition(".")
            if not dot or not schema or not table or "." in table:
                hint = "name it <schema>.<table>.toml, e.g. public.orders.toml"
                problems.append(Problem(path, 1, f"`{path.name}` names no table", hint))
                continue
            found.setdefault((unquote(schema), unquote(table)), path)
    return found, problems


def read_keys(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Read a TOML file of at most FILE_BYTES_MAX: its content, and the line of each key.

    Raises: ContractFileError if it cannot be read or is not TOML.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ContractFileError([Problem(path, 1, f"larger than {FILE_BYTES_MAX} bytes")])
        text = path.read_text(encoding="utf-8")
        given = tomli.loads(text)
    except OSError as error:
        raise ContractFileError([Problem(path, 1, f"cannot be read: {error}")]) from error
    except UnicodeDecodeError as error:
        raise ContractFileError([Problem(path, 1, f"is not UTF-8: {error}")]) from error
    except tomli.TOMLDecodeError as error:
        problem = Problem(path, error.lineno, f"not TOML: {error.msg} (column {error.colno})")
        raise ContractFileError([problem]) from error
    return given, key_lines(text)


def read_file(path: Path) -> ContractFile:
    """Read one contract file. Raises: ContractFileError with each mistake, its line and a hint."""
    schema, _, table = path.name.removesuffix(".toml").partition(".")
    given, lines = read_keys(path)
    try:
        content = Refinements.model_validate(given)
    except ValidationError as error:
        raise ContractFileError(_problems(path, lines, error)) from None
    file = ContractFile(path, unquote(schema), unquote(table), content, lines)
    problems = _policy_problems(file)
    if problems:
        raise ContractFileError(problems)
    return file


def _policy_problems(file: ContractFile) -> list[Problem]:
    """Return a problem for each policy that its kind of change does not allow."""
    # Imported here, because it loads Arrow, which is not needed only to read files.
    from spark_streaming.contract.evolution import POLICIES

    problems = []
    for kind, policies in POLICIES.items():
        policy = getattr(file.content.evolution, kind)
        if policy is not None and policy not in policies.allowed:
            message = f"`evolution.{kind}` cannot be {policy!r}"
            hint = f"one of {', '.join(policies.allowed)}"
            hint += f": {policies.why_not}" if policies.why_not else ""
            problems.append(file.problem(("evolution", kind), message, hint))
    return sorted(problems, key=lambda problem: problem.line)


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the most similar known one, or all known names."""
    names = list(known)
    guess = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{guess[0]}`?" if guess else f"known are {', '.join(names)}"


def _problems(
    path: Path, lines: dict[tuple[str | int, ...], int], error: ValidationError
) -> list[Problem]:
    found: dict[tuple[str | int, ...], Problem] = {}
    for item in error.errors(include_url=False):
        # After a scalar's path pydantic names the types that it tried, which are not keys.
        place = _place(item["loc"], item["type"], lines)
        name = ".".join(str(part) for part in place)
        line = line_of(lines, place)
        message, hint = f"`{name}`: {item['msg']}", ""
        if item["type"] == "extra_forbidden":
            message = f"unknown key `{place[-1]}`"
            hint = near(str(place[-1]), _model_at(place).model_fields)
        elif item["type"] == "value_error":
            message = f"`{name}`: {item['ctx']['error']}"
        elif item["type"] == "missing":
            message = f"`{name}` is missing"
        elif item["type"] == "literal_error":
            message = f"`{name}` cannot be {item['input']!r}"
            hint = f"one of {item['ctx']['expected']}"
        elif item["type"] == "string_pattern_mismatch":
            message = f"`{name}` cannot be {item['input']!r}"
            hint = _PATTERN_HINTS.get(str(place[-1]), "")
        else:
            if place[0] == "columns" and place[-1] in ("min", "max", "values"):
                message = f"`{name}`: numbers, text or dates are expected"
            hint = f"it is {item['input']!r} ({type(item['input']).__name__}) here"
        found.setdefault(place, Problem(path, line, message, hint))
    return sorted(found.values(), key=lambda problem: problem.line)


_PATTERN_HINTS = {
    "name": "a name is lower-case letters, digits and `_`, at most 63",
    "references": 'write "table.column" or "schema.table.column"',
}


def _place(
    loc: tuple[int | str, ...], kind: str, lines: dict[tuple[str | int, ...], int]
) -> tuple[str | int, ...]:
    if kind in ("extra_forbidden", "missing"):
        return loc
    end = len(loc)
    while end > 1 and loc[:end] not in lines:
        end -= 1
    return loc[:end]


def _model_at(place: tuple[str | int, ...]) -> type[BaseModel]:
    if len(place) > 2 and place[0] == "columns":
        return ColumnRules
    inner: dict[Any, type[BaseModel]] = {
        "expectations": Expectation,
        "unique": UniqueColumns,
        "conditions": TableCondition,
        "evolution": Evolution,
        "time_travel": TimeTravel,
    }
    return inner.get(place[0], Refinements) if len(place) > 1 else Refinements
