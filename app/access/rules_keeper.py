"""Keeps Trino's rules in step with roles, people, contracts, tables and views; works in the registrar.

Each pass:
  1. read `access.toml`, if it changed; a wrong one changes nothing, and is reported;
  2. classify the columns of all tables, with those that silver has announced;
  3. classify the views' columns, each view after those that it reads;
  4. write `rules.json`, if it differs, in one step; then answer the announcements.
Trino reads the file again within REFRESH_S.
"""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.access.accounts import FOLDER, PEOPLE
from app.access.column_memory import HISTORY, ColumnMemory
from app.access.declared_classes import Declared, DeclaredClasses
from app.access.roles import Role, Roles, read_roles
from app.access.trino_rules import RULES, ClassifiedTable, closed_rules, rules_text
from app.access.view_classes import ViewQuery, view_classes
from app.environment.settings import write_private
from spark_streaming.contract.contract_files import Classification, ContractFileError, near
from spark_streaming.tables.announced_columns import ANNOUNCED, LOCK, REFRESH_S

log = logging.getLogger("registrar")
FILE = "access.toml"
# Texts in `ops` that may quote a row: why an event was refused, what differs, why something failed.
_QUOTING: dict[str, Classification] = dict.fromkeys(
    (
        "key", "reason", "replayed_values", "differences", "refusal", "detail", "warning", "cause",
        "how_closed", "message", "error",
    ),
    "personal",
)  # fmt: skip
_NO_QUOTES = ("ops.meaning",)  # its `key` names columns
_SENSITIVE = ("ops.audit",)  # complete texts of queries with their users: every column


@dataclass(frozen=True)
class TableFacts:
    """A table in Trino: the type of each column, and the classes that its own metadata declares."""

    types: Mapping[str, str]
    declared: Mapping[str, Classification] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewFacts:
    """A view in Trino: its query, and the type of each column."""

    query: ViewQuery
    types: Mapping[str, str]


class RulesKeeper:
    """The rules of one home. Not for several threads.

    Args:
        folder: the home.
        contracts: the folders of contract files.
        refusal: tests a filter of a table in Trino; returns why Trino refuses it, or "".
        report: called with the reason why the rules cannot be applied, or "".
        people: returns name → role.
    """

    def __init__(
        self,
        home: Path,
        contracts: Sequence[Path],
        people: Callable[[], Mapping[str, str]],
        refusal: Callable[[str, str], str],
        report: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._file = home / FILE
        self._folder = home / FOLDER
        self._contracts = DeclaredClasses(contracts)
        self._people = people
        self._refusal = refusal
        self._report = report
        self._sleep = sleep
        self._memory = ColumnMemory(self._folder / "columns.json")
        self._roles: Mapping[str, Role] = self._applied()
        self._stamp: object = None
        self._problem = ""
        self._tables: dict[str, ClassifiedTable] = {}
        self._written = ""

    def close(self) -> None:
        """Show people nothing until the next pass, because Trino's tables may differ from the known ones."""
        with self._locked():
            self._write(closed_rules())
        self._tables.clear()

    def withhold(self, name: str) -> None:
        """Remove a view that is about to be replaced from the rules, and return when Trino has the rules."""
        if name in self._tables:
            del self._tables[name]
            with self._locked():
                self._write(rules_text(self._roles, self._people(), self._tables))

    def stamps(self) -> object:
        """Return a value that differs when one of the rules' files changes."""
        return (
            [_stamp_of(path) for path in (self._file, self._folder / PEOPLE)],
            self._contracts.stamps(),
            self._announcements(),
        )

    def update(self, tables: Mapping[str, TableFacts], views: Mapping[str, ViewFacts]) -> None:
        """Make one pass. Raises: OSError if the home cannot be written."""
        declared = self._contracts.now()
        with self._locked():
            announced = self._announced()
            found = self._classified(tables, announced, declared)
            for name, view in views.items():  # each after those that it reads
                found[name] = _classified_view(view, found)
            self._read_roles(found)
            self._memory.save()
            self._tables = found
            self._write(rules_text(self._roles, self._people(), found), wait=False)
            for path in self._announcements():
                if path.stem in announced:
                    path.unlink(missing_ok=True)
        missing = _missing_tables(self._roles, found)
        self._report(self._problem or missing)

    def _classified(
        self,
        tables: Mapping[str, TableFacts],
        announced: Mapping[str, Sequence[str]],
        declared: Declared,
    ) -> dict[str, ClassifiedTable]:
        found = {}
        for name, facts in sorted(tables.items(), key=_copies_last):
            if name in declared.unreadable and not self._memory.knows(name):
                continue  # its personal columns are unknown
            said = {
                **_of_ops(name, facts.types),
                **facts.declared,
                **declared.classes.get(name, {}),
            }
            # Existing columns first, because announced columns are later.
            self._memory.classes(name, facts.types, said)
            columns = [*facts.types, *announced.get(name, ())]
            classes = self._memory.classes(name, columns, said)
            found[name] = ClassifiedTable(classes, facts.types, _shown_in(name))
        return found

    def _read_roles(self, tables: Mapping[str, ClassifiedTable]) -> None:
        stamp = _stamp_of(self._file)
        if stamp == self._stamp and not self._problem:
            return
        try:
            found = read_roles(self._file)
            self._check_filters(found, tables)
        except ContractFileError as error:
            if self._problem != str(error):
                log.warning("the rules stay as they are: %s", error)
            self._problem, self._stamp = str(error), stamp
            return
        if self._problem:
            log.info("%s is right again", self._file)
        self._problem, self._stamp, self._roles = "", stamp, found.roles
        content = {name: role.model_dump() for name, role in found.roles.items()}
        write_private(self._folder / "applied.json", json.dumps(content))

    def _check_filters(self, found: Roles, tables: Mapping[str, ClassifiedTable]) -> None:
        problems = []
        for name, role in found.roles.items():
            for number, one in enumerate(role.filters):
                if one.table.lower() not in tables:
                    continue
                refused = self._refusal(one.table.lower(), one.where)
                if refused:
                    place = ("roles", name, "filters", number, "where")
                    message = f"Trino refuses the filter of {one.table}: {refused}"
                    problems.append(
                        found.problem(place, message, "an SQL condition on the table's columns")
                    )
        if problems:
            raise ContractFileError(problems)

    def _applied(self) -> dict[str, Role]:
        """The roles of the last file that was right; none, and people see nothing, before the first."""
        try:
            content = json.loads((self._folder / "applied.json").read_text())
            return {name: Role.model_validate(role) for name, role in content.items()}
        except (OSError, ValueError):
            return {}

    def _announcements(self) -> list[Path]:
        return sorted((self._folder / ANNOUNCED).glob("*.json"))

    def _announced(self) -> dict[str, list[str]]:
        return {path.stem: json.loads(path.read_text()) for path in self._announcements()}

    def _write(self, text: str, *, wait: bool = True) -> None:
        if text == self._written:
            return
        write_private(self._folder / RULES, text)
        self._written = text
        if wait:
            self._sleep(REFRESH_S)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Silver announces columns, and checks whether a table has rules, under the same lock."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._folder / LOCK, "w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield


def _copies_last(table: tuple[str, TableFacts]) -> tuple[bool, int, str]:
    """A copy, or a history, comes after what it is of: it has the classes of that, too."""
    name = table[0]
    return name.startswith(f"{HISTORY}."), name.count("__"), name


def _shown_in(name: str) -> frozenset[str]:
    """The table whose rows a history shows: who sees some of them only does not read it."""
    schema, _, table = name.partition(".")
    return frozenset({f"silver.{table}"} if schema == HISTORY else ())


def _of_ops(name: str, columns: Iterable[str]) -> dict[str, Classification]:
    """The classes of columns of `ops`, which no contract declares."""
    if name in _SENSITIVE:
        return dict.fromkeys(columns, "sensitive")
    if not name.startswith("ops.") or name in _NO_QUOTES:
        return {}
    return {column: _QUOTING[column] for column in columns if column in _QUOTING}


def _classified_view(view: ViewFacts, known: Mapping[str, ClassifiedTable]) -> ClassifiedTable:
    query = view.query
    kinds = view_classes(
        query, list(view.types), {name: one.classes for name, one in known.items()}
    )
    reads = {name for read in query.reads for name in (read, *_reads(known, read))}
    return ClassifiedTable(kinds, view.types, frozenset(reads))


def _reads(known: Mapping[str, ClassifiedTable], name: str) -> frozenset[str]:
    return known[name].reads if name in known else frozenset()


def _missing_tables(roles: Mapping[str, Role], tables: Mapping[str, ClassifiedTable]) -> str:
    for name, role in roles.items():
        for one in role.filters:
            if one.table.lower() not in tables:
                return (
                    f"role `{name}` sees nothing: its filter names {one.table}, which is not there\n"
                    f"  hint: {near(one.table, tables)}"
                )
    return ""


def _stamp_of(path: Path) -> object:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ""
    return stat.st_mtime_ns, stat.st_size
