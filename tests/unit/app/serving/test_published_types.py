"""Which type a published column has on each server, and how its values are given to MySQL."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Dialect, create_engine
from sqlalchemy.schema import CreateTable

from app.environment.settings import checked
from app.environment.toml_files import SettingsError
from app.errors import HeadwaterError
from app.serving.published_types import Server, column_type
from app.serving.serving_address import reader_address, serving_database
from app.serving.serving_mysql import ServingMysql, mysql_value
from app.serving.serving_postgres import ServingPostgres

PASSWORD = "hunter2hunter2"
DIALECTS: dict[str, Dialect] = {
    "postgresql": create_engine("postgresql+psycopg://").dialect,
    "mysql": create_engine("mysql+pymysql://").dialect,
}


@pytest.mark.parametrize(
    ("kind", "in_postgres", "in_mysql"),
    [
        ("boolean", "BOOLEAN", "BOOL"),
        ("tinyint", "SMALLINT", "SMALLINT"),
        ("bigint", "BIGINT", "BIGINT"),
        ("real", "REAL", "DOUBLE"),
        ("double", "DOUBLE PRECISION", "DOUBLE"),
        ("decimal(12, 2)", "NUMERIC(12, 2)", "NUMERIC(12, 2)"),
        ("varchar(20)", "TEXT", "LONGTEXT"),
        ("timestamp(6)", "TIMESTAMP WITHOUT TIME ZONE", "DATETIME(6)"),
        ("timestamp(3) with time zone", "TIMESTAMP WITH TIME ZONE", "DATETIME(6)"),
        ("time(3)", "TIME WITHOUT TIME ZONE", "TIME(6)"),
        ("uuid", "UUID", "CHAR(36)"),
        ("varbinary", "BYTEA", "LONGBLOB"),
        ("json", "JSONB", "JSON"),
    ],
)
def test_a_column_has_a_type_that_holds_all_values_of_trinos(
    kind: str, in_postgres: str, in_mysql: str
) -> None:
    found = [column_type("a", kind, "postgresql"), column_type("a", kind, "mysql")]
    compiled = [one.compile(DIALECTS[s]) for one, s in zip(found, DIALECTS, strict=True)]
    assert compiled == [in_postgres, in_mysql]


@pytest.mark.parametrize("server", ["postgresql", "mysql"])
def test_a_type_that_no_server_has_is_refused_with_the_columns_name(server: Server) -> None:
    with pytest.raises(HeadwaterError, match="column `tags` cannot be published"):
        column_type("tags", "array(bigint)", server)


def test_a_text_in_mysqls_key_has_a_length_and_no_number_counts_up() -> None:
    columns = [("word", "varchar"), ("number", "bigint"), ("title", "varchar")]
    database = ServingMysql(f"mysql://me:{PASSWORD}@db/shop")
    text = str(
        CreateTable(database.new_table("_new_1", columns, ["word", "number"])).compile(
            dialect=DIALECTS["mysql"]
        )
    )
    assert "word VARCHAR(255) NOT NULL" in text and "title LONGTEXT" in text
    assert "PRIMARY KEY (word, number)" in text and "AUTO_INCREMENT" not in text


def test_moments_are_given_to_mysql_in_utc() -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=timezone(timedelta(hours=2)))
    assert mysql_value(noon) == datetime(2026, 1, 2, 10)
    assert mysql_value(datetime(2026, 1, 2)) == datetime(2026, 1, 2)
    assert mysql_value(UUID(int=1)) == "00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    ("dsn", "kind", "host", "port"),
    [
        ("postgresql://me:{}@db.example.com/shop?sslmode=require", ServingPostgres, "db.example.com", 5432),
        ("postgresql://me:{}@one:1,two:2/shop", ServingPostgres, "one,two", "1,2"),
        ("mysql://me:{}@db.example.com:3307/shop", ServingMysql, "db.example.com", 3307),
    ],
)  # fmt: skip
def test_an_application_is_told_the_address_without_a_password_that_is_not_known(
    tmp_path: Path, dsn: str, kind: type, host: str, port: object
) -> None:
    own = checked(tmp_path, {"serving_dsn": dsn.format(PASSWORD)}, origin="the test")
    assert isinstance(serving_database(own.secret("serving_dsn")), kind)
    found = reader_address(own)
    assert (found["host"], str(found["port"]), found["database"]) == (host, str(port), "shop")
    assert PASSWORD not in repr((found, own.profile, own.profile.own_parts()))
    assert own.environment(["serving"])["HEADWATER_SERVING_DSN"] == dsn.format(PASSWORD)
    assert "HEADWATER_SERVING_DSN" not in own.environment(["object-store"])


@pytest.mark.parametrize(
    "dsn",
    ["sqlite:///{}", "mysql+mysqldb://me:{}@db/shop", "oracle://me:{}@db/shop", "mysql://me:{}@db",
     "postgresql://me:{}@db", "mysql://me:{}@one:1,two:2/shop"],
)  # fmt: skip
def test_another_kind_of_database_is_refused_without_being_shown(tmp_path: Path, dsn: str) -> None:
    with pytest.raises(SettingsError, match=r"serving_dsn.*no other kind of database") as refused:
        checked(tmp_path, {"serving_dsn": dsn.format(PASSWORD)}, origin="the test")
    assert PASSWORD not in str(refused.value)
