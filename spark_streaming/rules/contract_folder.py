"""Reads the contract files of a running job, checks them against tables, rereads changed ones."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import (
    ContractFile,
    ContractFileError,
    Evolution,
    Problem,
    Refinements,
    TimeTravel,
    find_files,
    read_file,
)
from spark_streaming.contract.masks import treated
from spark_streaming.contract.names import silver_table
from spark_streaming.events.event import Changes
from spark_streaming.quarantine.hiding import Hiding
from spark_streaming.rules.rules import TableRules, bind, no_rules

log = logging.getLogger(__name__)
# How often the folders are checked; a check lists each folder and calls `stat` on each file.
RELOAD_S = 2.0
Stamp = tuple[str, int, int]


class ContractFolder:
    """The contract files in some folders. Safe for use by several threads.

    Args:
        folders: if a table has files in two of them, the file in the first folder counts.
        mask_secret: the key of the `hash` mask.
        names: gives a source table's silver name.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (),
        mask_secret: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
        names: Callable[[str, str], str] = silver_table,
    ) -> None:
        self._names = names
        self._folders = list(folders)
        self.mask_secret = mask_secret
        self._clock = clock
        self._lock = threading.Lock()
        self._checked_at = -RELOAD_S
        self._stamps: dict[tuple[str, str], Stamp] = {}
        self._files: dict[tuple[str, str], ContractFile | ContractFileError] = {}
        self._texts: dict[tuple[str, str], frozenset[str]] = {}
        self._bound: dict[tuple[str, str], tuple[Contract, TableRules | ContractFileError]] = {}

    def rules_of(self, contract: Contract) -> TableRules:
        """The rules of a table; none if it has no file.

        Raises: ContractFileError if its file is wrong, or does not fit the table's columns.
        """
        table = (contract.schema, contract.table)
        with self._lock:
            self._reload()
            file = self._files.get(table)
            if file is None:
                return no_rules(*table)
            known = self._bound.get(table)
            if known is None or known[0] != contract:
                known = (contract, self._bind(file, contract))
                self._bound[table] = known
        if isinstance(known[1], ContractFileError):
            raise known[1]
        return known[1]

    def hiding_of(self, silver_name: str) -> Hiding:
        """The masked columns by a silver table's file; all columns if the file is wrong."""
        with self._lock:
            self._reload()
            file = next((f for t, f in self._files.items() if self._names(*t) == silver_name), None)
        if isinstance(file, ContractFileError):
            return Hiding(everything=True)
        columns = file.content.columns if file is not None else {}
        return Hiding(frozenset(name for name, rules in columns.items() if rules.mask))

    def texts_of(self, schema: str, table: str) -> frozenset[str]:
        """The columns that the last valid version of a table's file has carried as text."""
        with self._lock:
            self._reload()
            return self._texts.get((schema, table), frozenset())

    def evolution_of(self, schema: str, table: str) -> Evolution:
        """The policies for changes of a table, by its file; the defaults if it has none.

        They are not checked against the columns, which may just have changed. Raises:
        ContractFileError.
        """
        content = self.content_of(schema, table)
        return content.evolution if content is not None else Evolution()

    def time_travel_of(self, contract: Contract) -> TimeTravel:
        """Which old versions of a table stay readable; the defaults if it has no file.

        Raises: ContractFileError.
        """
        content = self.content_of(contract.schema, contract.table)
        return content.time_travel if content is not None else TimeTravel()

    def content_of(self, schema: str, table: str) -> Refinements | None:
        """The content of a table's file, not checked against the columns; None if it has none.

        Raises: ContractFileError if the file is wrong.
        """
        with self._lock:
            self._reload()
            file = self._files.get((schema, table))
        if isinstance(file, ContractFileError):
            raise file
        return file.content if file is not None else None

    def stamp(self, schema: str, table: str) -> str:
        """A text that differs when a table's file changes; empty if it has none."""
        with self._lock:
            self._reload()
            return " ".join(map(str, self._stamps.get((schema, table), ())))

    def freshness_targets(self) -> dict[str, float]:
        """Silver table → its target in seconds (source commit to silver), if a file sets one."""
        with self._lock:
            self._reload()
            return {
                self._names(*table): file.content.freshness
                for table, file in self._files.items()
                if isinstance(file, ContractFile) and file.content.freshness is not None
            }

    def _bind(
        self, file: ContractFile | ContractFileError, contract: Contract
    ) -> TableRules | ContractFileError:
        if isinstance(file, ContractFileError):
            return file
        try:
            rules = bind(file, contract)
        except ContractFileError as error:
            return error
        if "hash" in rules.masks.values() and not self.mask_secret:
            name = next(name for name, mask in rules.masks.items() if mask == "hash")
            hint = "`headwater up` sets HEADWATER_MASK_SECRET"
            place = ("columns", name, "mask")
            return ContractFileError([file.problem(place, "there is no secret for hashing", hint)])
        return rules

    def _reload(self) -> None:
        now = self._clock()
        if now - self._checked_at < RELOAD_S:
            return
        self._checked_at = now
        found, _ = find_files(self._folders)
        stamps: dict[tuple[str, str], Stamp] = {}
        for table, path in found.items():
            try:
                facts = path.stat()
            except FileNotFoundError:  # it was removed after the listing
                continue
            stamps[table] = (str(path), facts.st_mtime_ns, facts.st_size)
        for table in self._stamps.keys() | stamps.keys():
            if self._stamps.get(table) != stamps.get(table):
                self._read(table, found.get(table) if table in stamps else None)
        self._stamps = stamps

    def _read(self, table: tuple[str, str], path: Path | None) -> None:
        self._bound.pop(table, None)
        if path is None:
            self._files.pop(table, None)
            self._texts.pop(table, None)
            log.info("contract file of %s.%s was removed", *table)
            return
        try:
            self._files[table] = file = read_file(path)
            self._texts[table] = file.content.texts
            log.info("contract file %s is read", path)
        except ContractFileError as error:
            self._files[table] = error
            log.error("contract file is wrong\n%s", error)


def treat(changes: Changes, rules: TableRules, secret: bytes) -> tuple[Changes, Changes]:
    """Apply `masks.treated`. Returns: (changes for the rules, changes for silver)."""
    if not rules.treats_values:
        return changes, changes
    plain, masked = treated(changes.images, rules.empty_to_null, rules.masks, secret)
    return replace(changes, images=plain), replace(changes, images=masked)


def check_files(
    folders: Sequence[Path], contract_of: Callable[[str, str], Contract | None] | None
) -> tuple[list[ContractFile], list[Problem]]:
    """Read and judge all contract files of some folders.

    Args:
        contract_of: gives the table as the source has it now; None: columns are not checked.
    Returns: (files without mistakes, the mistakes of the others).
    """
    found, problems = find_files(folders)
    right = []
    for (schema, table), path in sorted(found.items()):
        try:
            file = read_file(path)
            if contract_of is not None:
                contract = contract_of(schema, table)
                if contract is None:
                    message = f"the source has no table {schema}.{table}"
                    hint = "the file has no effect without a table: rename or remove it"
                    raise ContractFileError([Problem(path, 1, message, hint)])
                problems += _unknown_targets(file, contract, contract_of)
            right.append(file)
        except ContractFileError as error:
            problems += error.problems
    wrong = {problem.file for problem in problems}
    return [file for file in right if file.path not in wrong], problems


def _unknown_targets(
    file: ContractFile,
    contract: Contract,
    contract_of: Callable[[str, str], Contract | None],
) -> list[Problem]:
    """A file's mistakes against its own table, and its references to what does not exist."""
    problems = []
    for reference in bind(file, contract).references:
        place = ("columns", reference.column, "references")
        target = contract_of(reference.schema, reference.table)
        if target is None:
            message = f"the source has no table {reference.schema}.{reference.table}"
            problems.append(file.problem(place, message))
        elif reference.target not in target.by_name:
            message = (
                f"there is no column `{reference.target}` in {reference.schema}.{reference.table}"
            )
            problems.append(file.problem(place, message, f"it has {', '.join(target.by_name)}"))
    return problems
