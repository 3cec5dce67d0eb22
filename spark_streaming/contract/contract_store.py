"""Stores every version of every contract in the lake, and reads the newest from the source."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

import psycopg
import pyarrow.fs as pa_fs

from spark_streaming.capture_choice import EVERYTHING, Choice
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.evolution import PREVIOUS_VERSIONS_MAX, next_version
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.source_catalog import read_contract, recorded_contracts
from spark_streaming.storage.connections import TCP_LIMITS, answer_within
from spark_streaming.storage.lake import Lake

log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 5
ANSWER_S = 30.0  # for a table's catalog entry and its recorded definitions
_OPTIONS = "-c statement_timeout=20s"
CONTRACTS = "contracts"


class CatalogUnreachableError(Exception):
    """The source's catalog could not be read; the message says why, without the DSN."""


Texts = Callable[[str, str], frozenset[str]]


def no_texts(schema: str, table: str) -> frozenset[str]:
    """Return no columns: the contract file of no table carries a column as text."""
    del schema, table
    return frozenset()


class ContractStore:
    """Reads contracts from the source's catalog and stores every version under `contracts/`.

    `texts` returns the columns of a table (schema, name) that its contract file carries as text.
    `choice` leaves out columns.
    """

    def __init__(
        self, lake: Lake, dsn: str, texts: Texts = no_texts, choice: Choice = EVERYTHING
    ) -> None:
        self._lake = lake
        self._dsn = dsn
        self.texts: Texts = texts
        self._choice = choice

    @property
    def dsn(self) -> str:
        """The libpq URL of the source's catalog. It holds a password: never print it."""
        return self._dsn

    def latest(self, schema: str, table: str) -> Contract | None:
        """Return the newest stored contract of a table with its previous versions, or None."""
        stored = self.versions(schema, table, newest=PREVIOUS_VERSIONS_MAX + 1)
        return replace(stored[-1], previous_versions=tuple(stored[:-1])) if stored else None

    def tables(self) -> list[tuple[str, str]]:
        """Return the (schema, table) of each stored contract."""
        folders = self._lake.filesystem().get_file_info(
            pa_fs.FileSelector(CONTRACTS, allow_not_found=True)
        )
        names = []
        for info in folders:
            name = unquote(info.base_name)
            schema, dot, table = name.partition(".")
            if dot:
                names.append((schema, table))
        return sorted(names)

    def versions(self, schema: str, table: str, newest: int | None = None) -> list[Contract]:
        """Return the stored versions of a table, oldest first.

        newest: return only this many of the newest versions.
        """
        files = self._lake.filesystem()
        stored = files.get_file_info(
            pa_fs.FileSelector(_folder(schema, table), allow_not_found=True)
        )
        names = sorted(info.path for info in stored if info.path.endswith(".json"))
        contracts = []
        for name in names[-newest:] if newest else names:
            with files.open_input_stream(name) as stream:
                contracts.append(Contract.from_json(stream.readall().decode()))
        return contracts

    def refreshed(self, schema: str, table: str, known: Contract | None) -> Contract | None:
        """Return the catalog's contract as the version after `known`; `known` if nothing changed.

        Returns `known` also if the table is not in the source.
        Raises: CatalogUnreachableError.
        """
        found = self.in_source(schema, table)
        return known if found is None else next_version(known, found)

    def keep(self, contract: Contract) -> None:
        """Store one version. Call it only after silver's table follows the version."""
        path = f"{_folder(contract.schema, contract.table)}/{contract.version:06d}.json"
        self._lake.fence()
        with self._lake.filesystem().open_output_stream(path) as stream:
            stream.write(contract.to_json().encode())

    def in_source(self, schema: str, table: str) -> Contract | None:
        """Return the table as the source's catalog has it now. Raises: CatalogUnreachableError."""
        with self._source(schema, table) as connection:
            found = read_contract(connection, schema, table, choice=self._choice)
        return found and found.with_texts(self.texts(found.schema, found.table))

    def noted(self, schema: str, table: str, after_lsn: Lsn) -> list[Contract]:
        """Return each definition that the table got after a log position, in order.

        Empty if the source does not record definitions. Raises: CatalogUnreachableError.
        """
        with self._source(schema, table) as connection:
            recorded = recorded_contracts(connection, schema, table, after_lsn, self._choice)
        return [contract.with_texts(self.texts(schema, table)) for contract in recorded]

    @contextlib.contextmanager
    def _source(self, schema: str, table: str) -> Iterator[psycopg.Connection[Any]]:
        try:
            limits = {**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S}
            with (
                psycopg.connect(
                    self._dsn, **limits, options=_OPTIONS, application_name="headwater"
                ) as connection,
                answer_within(connection, ANSWER_S),
            ):
                yield connection
        except psycopg.Error as error:
            raise CatalogUnreachableError(
                f"the contract of {schema}.{table} could not be read from the source\n"
                f"  detail: {type(error).__name__}: {str(error).strip()}\n"
                "  hint: HEADWATER_CAPTURE_DSN must reach the source; `headwater status postgres`"
            ) from error


def _folder(schema: str, table: str) -> str:
    return f"{CONTRACTS}/{quote(f'{schema}.{table}', safe=' .')}"
