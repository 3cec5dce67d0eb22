"""A reader's options: its table, where it begins and ends, and the object store."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import HeadwaterError

ROWS_MAX = 1_000_000
_ENDPOINT, _REGION = "HEADWATER_S3_ENDPOINT", "HEADWATER_S3_REGION"
_ACCESS, _SECRET = "HEADWATER_S3_ACCESS_KEY", "HEADWATER_S3_SECRET_KEY"  # names, no secrets
_BUCKET = "HEADWATER_LAKE_BUCKET"


@dataclass(frozen=True)
class Store:
    """An object store. Without keys the client finds its own credentials (for example a pod's role)."""

    endpoint: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @property
    def plain_http(self) -> bool:
        """Whether requests to the store go without TLS."""
        return self.endpoint.startswith("http://")


@dataclass(frozen=True)
class Options:
    """One run of a reader; see `parse`."""

    table: str
    first: int | None
    state: Path | None
    seconds: float
    rows_max: int
    store: Store


def parse(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Parse a reader's options. Wrong usage ends the process with exit code 2.

    Raises: HeadwaterError where the environment names only one of the store's two keys.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Print a Delta table's rows, or its changes by version, as lines of JSON.",
    )
    parser.add_argument("table", help="a silver table, as `orders`, or an address, s3://…")
    parser.add_argument(
        "--from", dest="first", type=_count, metavar="VERSION", help="changes from this version on"
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="go on where the run before this one ended"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="wait so long for newer versions (0: not at all)"
    )
    parser.add_argument(
        "--rows-max",
        type=_count,
        default=ROWS_MAX,
        metavar="N",
        help=f"end after the version that reaches so many lines ({ROWS_MAX})",
    )
    given = parser.parse_args(arguments)
    table = address_of(given.table, environment.get(_BUCKET) or "lake")
    return Options(
        table, given.first, given.state, given.seconds, given.rows_max, store_of(environment)
    )


def address_of(table: str, bucket: str) -> str:
    """Return a table's address; a name without `://` is a silver table."""
    if "://" in table:
        return table.rstrip("/")
    return f"s3://{bucket}/silver/{table}"


def store_of(environment: Mapping[str, str]) -> Store:
    """Read the store from the environment. Raises: HeadwaterError where one of the two keys is missing."""
    access, secret = environment.get(_ACCESS, ""), environment.get(_SECRET, "")
    if bool(access) != bool(secret):
        missing = _SECRET if access else _ACCESS
        raise HeadwaterError(
            f"{missing} is not set", hint="set both keys of the store, or neither of them"
        )
    region = environment.get(_REGION) or "us-east-1"
    return Store(environment.get(_ENDPOINT, ""), region, access, secret)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number
