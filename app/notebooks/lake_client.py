"""Functions with which notebooks read the lake: SQL by Trino, and Delta tables directly from the object store.

    from app.notebooks.lake_client import delta, has_table, sql, tables
    sql("SELECT * FROM silver.orders LIMIT 10")

Addresses and keys are in the environment of the service `notebooks` and of tasks of kind `notebook`.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

from app.errors import HeadwaterError
from app.query.trino_connection import connect, explain

if TYPE_CHECKING:
    from deltalake import DeltaTable

_TRINO = "HEADWATER_TRINO_URL"


def sql(statement: str, *values: Any) -> Any:
    """Query Trino. Returns: a pandas DataFrame. Raises: HeadwaterError if Trino refuses or does not answer.

    Args:
        values: for each `?` of the statement.
    """
    import pandas as pd

    url = _given(_TRINO)
    with closing(connect(url, source="notebook")) as connection:
        cursor = connection.cursor()
        try:
            cursor.execute(statement, list(values) or None)
            rows = cursor.fetchall()
        except Exception as error:
            raise explain(error, url) from error
        return pd.DataFrame(rows, columns=[column[0] for column in cursor.description or ()])


def tables(schema: str = "silver") -> list[str]:
    """Return the names of a schema's tables and views, sorted; [] if there is no such schema."""
    found = sql(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY 1", schema
    )
    return [str(name) for name in found["table_name"]]


def has_table(name: str) -> bool:
    """Whether Trino has a table `schema.table`."""
    schema, _, table = name.partition(".")
    return table in tables(schema)


def delta(name: str, version: int | None = None) -> DeltaTable:
    """Open a Delta table `schema.table` of silver, ops, history, ml or files, at a version or the newest.

    Raises: HeadwaterError if there is no such table, or its version is gone.
    """
    from deltalake.exceptions import DeltaError, TableNotFoundError

    from spark_streaming.storage.lake import Lake
    from spark_streaming.storage.store_address import load_store

    _given("HEADWATER_S3_ACCESS_KEY")
    schema, _, table = name.partition(".")
    lake = Lake(load_store())
    path = lake.silver_path(table) if schema == "silver" else f"{schema}/{table}"
    try:
        return lake.table(path, version)
    except TableNotFoundError as error:
        raise HeadwaterError(
            f"the lake has no table `{name}`", hint="`tables(SCHEMA)` lists them"
        ) from error
    except DeltaError as error:
        raise HeadwaterError(
            f"`{name}` cannot be read at version {version}",
            detail=str(error).splitlines()[0],
            hint="all versions stay for `silver_retention_minutes`; `ops.versions` lists older ones",
        ) from error


def _given(variable: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise HeadwaterError(
            "this notebook has no address of a stack",
            detail=f"{variable} is not set",
            hint="open it in `./headwater up --only notebooks`, or run it as a task of a job",
        ) from None
