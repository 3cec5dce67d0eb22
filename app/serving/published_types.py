"""The type of a published column: one table from Trino's types to those of Postgres and of MySQL."""

from __future__ import annotations

import re
from typing import Any, Literal

from sqlalchemy import BOOLEAN, CHAR, DATE, NUMERIC, TEXT
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import BIGINT, INTEGER, SMALLINT, TypeEngine

from app.errors import HeadwaterError

Server = Literal["postgresql", "mysql"]
_MICROSECONDS = 6
_TEXT = (TEXT(), mysql.LONGTEXT())
_DOUBLE = mysql.DOUBLE()
# Trino's type, without its parameters → Postgres', MySQL's.
_TYPES: dict[str, tuple[TypeEngine[Any], TypeEngine[Any]]] = {
    "boolean": (BOOLEAN(), BOOLEAN()),
    "tinyint": (SMALLINT(), SMALLINT()),
    "smallint": (SMALLINT(), SMALLINT()),
    "integer": (INTEGER(), INTEGER()),
    "bigint": (BIGINT(), BIGINT()),
    "real": (postgresql.REAL(), _DOUBLE),  # MySQL shows only six digits of a FLOAT
    "double": (postgresql.DOUBLE_PRECISION(), _DOUBLE),
    "varchar": _TEXT,
    "char": _TEXT,
    "date": (DATE(), DATE()),
    "time": (postgresql.TIME(), mysql.TIME(fsp=_MICROSECONDS)),
    "timestamp": (postgresql.TIMESTAMP(), mysql.DATETIME(fsp=_MICROSECONDS)),
    # In UTC: MySQL's TIMESTAMP ends in 2038.
    "timestamp with time zone": (
        postgresql.TIMESTAMP(timezone=True),
        mysql.DATETIME(fsp=_MICROSECONDS),
    ),
    "uuid": (postgresql.UUID(), CHAR(36)),
    "varbinary": (postgresql.BYTEA(), mysql.LONGBLOB()),
    "json": (postgresql.JSONB(), mysql.JSON()),
}
# MySQL's index takes 3,072 bytes, four of them for a character; and no text without a length.
_KEY_CHARACTERS = 255
_MYSQL_KEYS: dict[str, TypeEngine[Any]] = {
    "varchar": mysql.VARCHAR(_KEY_CHARACTERS),
    "char": mysql.VARCHAR(_KEY_CHARACTERS),
    "varbinary": mysql.VARBINARY(_KEY_CHARACTERS),
}


def column_type(column: str, kind: str, server: Server, *, in_key: bool = False) -> TypeEngine[Any]:
    """Return the type of a column on a server.

    Args:
        kind: Trino's type.
        in_key: whether the column is in the primary key.
    Raises: HeadwaterError for a type that the server has none for.
    """
    if decimal := re.fullmatch(r"decimal\((\d+),\s*(\d+)\)", kind):
        return NUMERIC(int(decimal[1]), int(decimal[2]))
    plain = re.sub(r"\(\d+\)", "", kind)
    if plain not in _TYPES:
        raise HeadwaterError(
            f"column `{column}` cannot be published: it is {kind}",
            hint=f"make it text: json_format(CAST({column} AS json))",
        )
    if server == "mysql" and in_key and plain in _MYSQL_KEYS:
        return _MYSQL_KEYS[plain]
    return _TYPES[plain][0 if server == "postgresql" else 1]
