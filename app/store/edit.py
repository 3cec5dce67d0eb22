"""Makes one visible edit and notes its commit, so that the demo can follow it through every hop."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import ProgrammingError

from app.errors import HeadwaterError
from app.store.tables.schema import movies
from app.store.workload.store_workload import utc_now
from spark_streaming.contract.lsn import Lsn, parse_lsn


@dataclass(frozen=True)
class Edit:
    """One committed edit.

    Args: table, key, column: the edited value, in schema public; the key is column → value.
        old, new: the column's value before and after.
        xid: the transaction's id as in Debezium's `source.txId`, without the epoch.
        began_at: this machine's clock before the UPDATE.
        committed_at: this machine's clock right after the commit returned.
        wal_lsn: the end of the WAL after the commit: the commit's own LSN is at most this.
    """

    table: str
    key: dict[str, int]
    column: str
    old: str | None
    new: str
    xid: int
    began_at: datetime
    committed_at: datetime
    wal_lsn: str

    @property
    def lsn(self) -> Lsn:
        """`wal_lsn` as a byte position."""
        return parse_lsn(self.wal_lsn)

    def as_dict(self) -> dict[str, object]:
        plain: dict[str, object] = asdict(self)
        plain |= {"began_at": self.began_at.isoformat(), "lsn": self.lsn}
        return plain | {"committed_at": self.committed_at.isoformat()}


def edit_movie(
    engine: Engine, *, movie_id: int | None = None, now: Callable[[], datetime] = utc_now
) -> Edit:
    """Give a movie a new, unique tagline; no workload changes a tagline.

    Args:
        movie_id: the movie to edit; None takes the first one.
    Raises: HeadwaterError if the store or the movie does not exist.
    """
    began_at = now()
    new = (
        f"Edited at {began_at:%H:%M:%S}.{began_at.microsecond // 1000:03d}, {secrets.token_hex(4)}"
    )
    wanted = select(movies.c.movie_id, movies.c.tagline).order_by(movies.c.movie_id).limit(1)
    if movie_id is not None:
        wanted = wanted.where(movies.c.movie_id == movie_id)
    try:
        with engine.begin() as connection:
            found = connection.execute(wanted.with_for_update()).first()
            if found is None:
                raise _missing(movie_id)
            connection.execute(
                update(movies)
                .where(movies.c.movie_id == found.movie_id)
                .values(tagline=new, updated_at=began_at)
            )
            xid = connection.execute(select(text("pg_current_xact_id()::text::bigint"))).scalar()
    except ProgrammingError:  # no such table
        raise _missing(None) from None
    committed_at = now()
    with engine.connect() as connection:
        wal_lsn = connection.execute(select(func.pg_current_wal_lsn())).scalar_one()
    return Edit(
        table="movies",
        key={"movie_id": found.movie_id},
        column="tagline",
        old=found.tagline,
        new=new,
        xid=int(xid or 0) & 0xFFFF_FFFF,
        began_at=began_at,
        committed_at=committed_at,
        wal_lsn=str(wal_lsn),
    )


def _missing(movie_id: int | None) -> HeadwaterError:
    return HeadwaterError(
        "there is no movie to edit" if movie_id is None else f"there is no movie {movie_id}",
        hint="fill the store first: python -m app.store seed",
    )
