"""Contract files written from a real catalog are correct, and have the constraints that the source enforces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from app.store.tables.schema import metadata
from spark_streaming.contract.contract_files import file_name, read_file
from spark_streaming.contract.source_catalog import list_tables, read_contract
from spark_streaming.rules.contract_folder import check_files
from spark_streaming.rules.contract_init import contract_text
from spark_streaming.rules.rules import bind
from tests.support.stack import ROOT

Connection = psycopg.Connection[tuple[Any, ...]]


def written(source: Connection, folder: Path) -> None:
    for schema, table in list_tables(source):
        text = contract_text(source, schema, table)
        (folder / file_name(schema, table)).write_text(text)


def test_what_the_source_enforces_becomes_warn_rules(source: Connection, tmp_path: Path) -> None:
    source.execute(
        """create type mood as enum ('sad', 'it''s "ok"');
        create table people (id int primary key);
        create table films (id int primary key, stars numeric(2,1) check (stars between 0.5 and 5),
          mood mood, owner int references people, a int, b int, unique (a, b),
          constraint "Odd name!" check (a > 0 or b is null),
          constraint regex check (mood::text ~ 'x' and pg_column_size(a) > 1));"""
    )
    written(source, tmp_path)
    path = tmp_path / "public.films.toml"
    contract = read_contract(source, "public", "films")
    assert contract is not None
    rules = bind(read_file(path), contract)
    assert {rule.name for rule in rules.rules} == {"mood_values", "films_stars_check", "odd_name"}
    assert [(r.column, r.schema, r.table, r.target) for r in rules.references] == [
        ("owner", "public", "people", "id")
    ]
    assert [unique.columns for unique in rules.uniques] == [("a", "b")]
    assert set(rules.actions().values()) == {"warn"}
    assert "# The source's CHECK `regex` does not read the same here" in path.read_text()


def test_files_of_strange_names_are_right(source: Connection, tmp_path: Path) -> None:
    source.execute(
        """create schema "My.Schema";
        create table "My.Schema"."a/b \u00fc" ("the key" int primary key, "quote""d" text unique,
          "x.y" int check ("x.y" > 0), "line\nbreak" int);
        create table bag (v text unique, w int generated always as (1) stored);"""
    )
    written(source, tmp_path)
    right, problems = check_files([tmp_path], lambda s, t: read_contract(source, s, t))
    assert problems == []
    assert {(file.schema, file.table) for file in right} == set(list_tables(source))


def test_shipped_contracts_fit_the_demo_store(source: Connection) -> None:
    import sqlalchemy

    address = f"postgresql+psycopg://{source.info.user}:{source.info.password}@"
    address += f"{source.info.host}:{source.info.port}/{source.info.dbname}"
    engine = sqlalchemy.create_engine(address)
    metadata.create_all(engine)
    engine.dispose()
    folder = ROOT / "spark_streaming" / "contracts"
    right, problems = check_files([folder], lambda s, t: read_contract(source, s, t))
    assert problems == []
    assert len(right) == len(list(folder.glob("*.toml")))
