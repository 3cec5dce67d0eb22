"""A reader's options: its table, its beginning and end, and the object store."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import HeadwaterError
from spark_streaming.storage.store_address import VARIABLES, ObjectStore, store_of

ROWS_MAX = 1_000_000


@dataclass(frozen=True)
class Options:
    """One run of a reader; see `parse`."""

    table: str
    first: int | None
    state: Path | None
    seconds: float
    rows_max: int
    store: ObjectStore


def parse(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Parse a reader's options. Wrong usage ends the process with exit code 2.

    Raises: HeadwaterError if the environment names only one of the store's two keys.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Print a Delta table's rows, or its changes by version, as lines of JSON.",
    )
    parser.add_argument("table", help="a silver table, e.g. `orders`, or an address, s3://…")
    parser.add_argument(
        "--from", dest="first", type=_count, metavar="VERSION", help="changes from this version on"
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="continue where the previous run ended"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.0,
        help="how long to wait for newer versions (0: not at all)",
    )
    parser.add_argument(
        "--rows-max",
        type=_count,
        default=ROWS_MAX,
        metavar="N",
        help=f"end after the version that reaches this many lines ({ROWS_MAX})",
    )
    given = parser.parse_args(arguments)
    store = _store(environment)
    table = address_of(given.table, store)
    return Options(table, given.first, given.state, given.seconds, given.rows_max, store)


def address_of(table: str, store: ObjectStore) -> str:
    """Return a table's address; a name without `://` is a silver table."""
    if "://" in table:
        return table.rstrip("/")
    folder = f"{store.lake_folder}/" if store.lake_folder else ""
    return store.url(store.lake_bucket, f"{folder}silver/{table}")


def _store(environment: Mapping[str, str]) -> ObjectStore:
    store = store_of(environment)
    if bool(store.access_key) != bool(store.secret_key):
        missing = VARIABLES["secret_key" if store.access_key else "access_key"]
        raise HeadwaterError(
            f"{missing} is not set", hint="set both keys of the store, or neither of them"
        )
    return store


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number
