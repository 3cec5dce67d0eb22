"""Contracts in the lake: each version of each table's, and the newest from the source's catalog."""

from __future__ import annotations

import contextlib
import logging
from urllib.parse import quote

import psycopg
import pyarrow.fs as pa_fs

from spark_streaming.catalog import read_contract
from spark_streaming.contract import Contract
from spark_streaming.lake import Lake

log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 5


class CatalogUnreachableError(Exception):
    """The source's catalog could not be read; the text says what was observed, without the DSN."""


class ContractStore:
    """Reads contracts from the source's catalog and keeps every version under `contracts/`."""

    def __init__(self, lake: Lake, dsn: str) -> None:
        self._lake = lake
        self._dsn = dsn

    def latest(self, schema: str, table: str) -> Contract | None:
        """The newest contract kept of a table, or None."""
        folder = _folder(schema, table)
        found = self._lake.filesystem().get_file_info(
            pa_fs.FileSelector(folder, allow_not_found=True)
        )
        names = sorted(info.path for info in found if info.path.endswith(".json"))
        if not names:
            return None
        with self._lake.filesystem().open_input_stream(names[-1]) as stream:
            return Contract.from_json(stream.readall().decode())

    def refreshed(self, schema: str, table: str, known: Contract | None) -> Contract | None:
        """The catalog's contract as the version after `known`, or `known` where nothing changed.

        None: the table is not in the source any more and was never known.
        Raises: CatalogUnreachableError.
        """
        found = self._from_catalog(schema, table)
        if found is None:
            return known
        if known is None:
            return _numbered(found, 1)
        if _numbered(found, known.version).fingerprint() == known.fingerprint():
            return known
        return _numbered(_with_dropped(found, known), known.version + 1)

    def keep(self, contract: Contract) -> None:
        """Store one version; only after silver's table follows it."""
        path = f"{_folder(contract.schema, contract.table)}/{contract.version:06d}.json"
        with self._lake.filesystem().open_output_stream(path) as stream:
            stream.write(contract.to_json().encode())

    def _from_catalog(self, schema: str, table: str) -> Contract | None:
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(
                    psycopg.connect(
                        self._dsn, connect_timeout=CONNECT_TIMEOUT_S, application_name="headwater"
                    )
                )
                return read_contract(connection, schema, table)
            except psycopg.Error as error:
                raise CatalogUnreachableError(
                    f"the contract of {schema}.{table} could not be read from the source\n"
                    f"  detail: {type(error).__name__}: {str(error).strip()}\n"
                    "  hint: HEADWATER_CAPTURE_DSN must reach the source; `headwater status postgres`"
                ) from error


def _folder(schema: str, table: str) -> str:
    return f"contracts/{quote(f'{schema}.{table}', safe=' .')}"


def _numbered(contract: Contract, version: int) -> Contract:
    from dataclasses import replace

    return replace(contract, version=version)


def _with_dropped(found: Contract, known: Contract) -> Contract:
    """Columns that the source dropped stay, nullable, so that silver keeps what it has of them."""
    from dataclasses import replace

    have = {column.name for column in found.columns}
    dropped = tuple(
        replace(c, nullable=True, missing_value=None) for c in known.columns if c.name not in have
    )
    return replace(found, columns=found.columns + dropped)
