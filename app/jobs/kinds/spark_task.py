"""Runs a Python program that uses Spark, for a task of kind `spark`.

    python -m app.jobs.kinds.spark_task TABLES MODULE-OR-FILE ARGUMENT…

The program gets its session by `SparkSession.builder.getOrCreate()`. TABLES, the task's `reads` separated by commas,
are in the session's catalog: `spark.table("silver.orders")`.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.kinds.spark_session import only_spark, spark_session
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def name_tables(session: SparkSession, lake: Lake, tables: Sequence[str]) -> None:
    """Put tables of the lake into a session's catalog. Raises: HeadwaterError if one does not exist."""
    for name in tables:
        schema, _, table = name.partition(".")
        path = lake.silver_path(table) if schema == "silver" else f"{schema}/{table}"
        if not lake.exists(path):
            raise HeadwaterError(
                f"the lake has no table `{name}`",
                detail=f"observed no Delta table at {lake.url(path)}",
                hint="`reads` names the tables that the task needs",
            )
        session.sql(f"CREATE DATABASE IF NOT EXISTS `{schema}`")
        session.sql(
            f"CREATE TABLE IF NOT EXISTS `{schema}`.`{table}` USING DELTA "
            f"LOCATION '{lake.spark_url(path)}'"
        )


def run_program(program: str, arguments: Sequence[str]) -> None:
    """Run a module or a file like `python` does."""
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def main(arguments: Sequence[str]) -> int:
    """Run the program; exit 1 with a short message if Spark or a table is missing."""
    tables, program, *rest = arguments
    try:
        settings = load()
        lake = Lake(settings.store).for_writing()
        with only_spark(settings.home), spark_session(store=settings.store) as session:
            name_tables(session, lake, [name for name in tables.split(",") if name])
            run_program(program, rest)
    except (HeadwaterError, SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
