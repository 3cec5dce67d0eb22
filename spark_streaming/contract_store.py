"""Contracts in the lake: each version of each table's, and the newest from the source's catalog."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

import psycopg
import pyarrow.fs as pa_fs

from spark_streaming.catalog import noted_contracts, read_contract
from spark_streaming.contract import Contract
from spark_streaming.evolution import EARLIER_MAX, followed
from spark_streaming.lake import Lake

log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 5
CONTRACTS = "contracts"


class CatalogUnreachableError(Exception):
    """The source's catalog could not be read; the text says what was observed, without the DSN."""


Texts = Callable[[str, str], frozenset[str]]


def no_texts(schema: str, table: str) -> frozenset[str]:
    """No column is carried as text by choice."""
    del schema, table
    return frozenset()


class ContractStore:
    """Reads contracts from the source's catalog and keeps every version under `contracts/`.

    `texts` tells the columns of a table (schema, name) that its contract file carries as text.
    """

    def __init__(self, lake: Lake, dsn: str, texts: Texts = no_texts) -> None:
        self._lake = lake
        self._dsn = dsn
        self.texts: Texts = texts

    @property
    def dsn(self) -> str:
        """libpq URL of the source's catalog; holds a password: never print it."""
        return self._dsn

    def latest(self, schema: str, table: str) -> Contract | None:
        """The newest contract kept of a table, with the versions before it as `earlier`, or None."""
        found = self.versions(schema, table, newest=EARLIER_MAX + 1)
        return replace(found[-1], earlier=tuple(found[:-1])) if found else None

    def tables(self) -> list[tuple[str, str]]:
        """The (schema, table) of each contract that is kept."""
        found = self._lake.filesystem().get_file_info(
            pa_fs.FileSelector(CONTRACTS, allow_not_found=True)
        )
        names = []
        for info in found:
            name = unquote(info.base_name)
            schema, dot, table = name.partition(".")
            if dot:
                names.append((schema, table))
        return sorted(names)

    def versions(self, schema: str, table: str, newest: int | None = None) -> list[Contract]:
        """The versions kept of a table, oldest first, each with the LSN from which it holds.

        newest: only so many of the newest.
        """
        files = self._lake.filesystem()
        found = files.get_file_info(
            pa_fs.FileSelector(_folder(schema, table), allow_not_found=True)
        )
        names = sorted(info.path for info in found if info.path.endswith(".json"))
        contracts = []
        for name in names[-newest:] if newest else names:
            with files.open_input_stream(name) as stream:
                contracts.append(Contract.from_json(stream.readall().decode()))
        return contracts

    def refreshed(self, schema: str, table: str, known: Contract | None) -> Contract | None:
        """The catalog's contract as the version after `known`, or `known` where nothing changed.

        None: the table is not in the source any more and was never known.
        Raises: CatalogUnreachableError.
        """
        found = self.in_source(schema, table)
        return known if found is None else followed(known, found)

    def keep(self, contract: Contract) -> None:
        """Store one version; only after silver's table follows it."""
        path = f"{_folder(contract.schema, contract.table)}/{contract.version:06d}.json"
        with self._lake.filesystem().open_output_stream(path) as stream:
            stream.write(contract.to_json().encode())

    def in_source(self, schema: str, table: str) -> Contract | None:
        """The table as the source's catalog has it now. Raises: CatalogUnreachableError."""
        with self._source(schema, table) as connection:
            found = read_contract(connection, schema, table)
        return found and found.with_texts(self.texts(found.schema, found.table))

    def noted(self, schema: str, table: str, after_lsn: int) -> list[Contract]:
        """What the table was like behind a log position, definition by definition.

        Empty where the source notes none. Raises: CatalogUnreachableError.
        """
        with self._source(schema, table) as connection:
            noted = noted_contracts(connection, schema, table, after_lsn)
        return [contract.with_texts(self.texts(schema, table)) for contract in noted]

    @contextlib.contextmanager
    def _source(self, schema: str, table: str) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(
                self._dsn, connect_timeout=CONNECT_TIMEOUT_S, application_name="headwater"
            ) as connection:
                yield connection
        except psycopg.Error as error:
            raise CatalogUnreachableError(
                f"the contract of {schema}.{table} could not be read from the source\n"
                f"  detail: {type(error).__name__}: {str(error).strip()}\n"
                "  hint: HEADWATER_CAPTURE_DSN must reach the source; `headwater status postgres`"
            ) from error


def _folder(schema: str, table: str) -> str:
    return f"{CONTRACTS}/{quote(f'{schema}.{table}', safe=' .')}"
