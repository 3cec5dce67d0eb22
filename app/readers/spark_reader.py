"""Read a Delta table with Spark: in this process's own JVM, or on a cluster.

    python -m app.readers.spark_reader orders --state orders.state
    spark-submit app/readers/spark_reader.py orders     # its log comes on stdout then

Delta's and S3A's jars must be on the class path. Spark turns rows into JSON, and the driver
receives them one by one: any number of rows fits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.errors import HeadwaterError
from app.readers.follow import feed_error, gone_error, run
from app.readers.reader_lines import READ, Change
from app.readers.reader_options import Options
from spark_streaming.storage.store_address import ObjectStore
from spark_streaming.storage.store_clients import give_keys, hadoop_url, spark_options

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import DataType

SERVICE = "spark-reader"
CHANGE, VERSION = "_change_type", "_commit_version"
FEED_COLUMNS = (CHANGE, VERSION, "_commit_timestamp")
_JSON = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
_COMMIT = "commitInfo struct<timestamp: bigint, inCommitTimestamp: bigint>"
_NO_FEED = ("DELTA_MISSING_CHANGE_DATA", "DELTA_CHANGE_DATA_FEED")
_NO_TABLE = ("DELTA_MISSING_DELTA_TABLE", "DELTA_TABLE_NOT_FOUND", "PATH_NOT_FOUND")


class SparkTable:
    """One table; each call is a few Spark jobs."""

    def __init__(self, session: SparkSession, address: str) -> None:
        self._session = session
        self._address = address
        self._url = hadoop_url(address)

    def newest(self) -> int:
        from delta.tables import DeltaTable
        from pyspark.errors import AnalysisException

        try:
            history = DeltaTable.forPath(self._session, self._url).history(1)
            [last] = history.select("version").collect()
        except AnalysisException as error:
            if not _is(error, _NO_TABLE) and "not a Delta table" not in str(error):
                raise
            raise HeadwaterError(
                f"there is no Delta table at {self._address}",
                hint="`./headwater sql 'SHOW TABLES'` lists silver's",
            ) from None
        return int(last.version)

    def rows(self, version: int) -> Iterator[Change]:
        from pyspark.errors import PySparkException

        frame = self._read({"versionAsOf": version})
        try:
            moment = self._times(version, version).get(version)
        except PySparkException:
            moment = None  # the log entry is gone, and its checkpoint has no times
        for (row,) in frame.select(as_json(frame)).toLocalIterator():
            yield Change(version, moment, READ, row)

    def changes(self, first: int, last: int) -> Iterator[Change]:
        from pyspark.errors import PySparkException

        span = {"readChangeFeed": "true", "startingVersion": first, "endingVersion": last}
        try:
            frame = self._read(span)
            times = self._times(first, last)
            lines = frame.select(VERSION, CHANGE, as_json(frame)).orderBy(VERSION)
            for version, change, row in lines.toLocalIterator():
                yield Change(version, times.get(version), change, row)
        except PySparkException as error:
            if _is(error, _NO_FEED):
                raise feed_error(self._address, first) from None
            raise gone_error(self._address, first, _short(error)) from None

    def _read(self, options: dict[str, object]) -> DataFrame:
        reader = self._session.read.format("delta")
        for name, value in options.items():
            reader = reader.option(name, str(value))
        return reader.load(self._url)

    def _times(self, first: int, last: int) -> dict[int, int]:
        """Return version → its commit's own time in ms; the feed's column has the log file's time."""
        from pyspark.sql import functions as F

        files = [f"{self._url}/_delta_log/{version:020}.json" for version in range(first, last + 1)]
        info = self._session.read.schema(_COMMIT).json(files).where("commitInfo IS NOT NULL")
        number = F.regexp_extract(F.input_file_name(), r"(\d{20})\.json$", 1).cast("bigint")
        moment = F.coalesce("commitInfo.inCommitTimestamp", "commitInfo.timestamp")
        return {row[0]: row[1] for row in info.select(number, moment).collect()}


def as_json(frame: DataFrame) -> Column:
    """Write the table's own columns as JSON text, as `reader_lines.plain` does."""
    from pyspark.sql import functions as F

    fields = [field for field in frame.schema.fields if field.name not in FEED_COLUMNS]
    values = []
    for field in fields:
        name = "`" + field.name.replace("`", "``") + "`"
        kind = plain_type(field.dataType)
        values.append((F.col(name).cast(kind) if kind else F.col(name)).alias(field.name))
    return F.to_json(F.struct(*values), _JSON).alias("row")


def plain_type(kind: DataType) -> str:
    """Return the type to cast to, so that JSON loses nothing; "" if no cast is needed."""
    from pyspark.sql import types as T

    if isinstance(kind, T.DecimalType):
        return "string"
    if isinstance(kind, T.FloatType):
        return "double"
    if isinstance(kind, T.ArrayType):
        inner = plain_type(kind.elementType)
        return f"array<{inner}>" if inner else ""
    return ""


def start_session(store: ObjectStore) -> SparkSession:
    """Start a session with Delta and S3A; options of `spark-submit` are kept."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(SERVICE)
    for name, value in {
        **spark_options(store),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        # One partition is enough for a log or a chunk of changes; by default each needs 50 or 200
        # tasks.
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.shuffle.partitions": "1",
        # A version older than the retention can be read as long as its files exist.
        "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    give_keys(session, store)
    return session


def _is(error: Exception, conditions: tuple[str, ...]) -> bool:
    found = getattr(error, "getCondition", lambda: None)() or ""
    return found.startswith(conditions) or any(name in str(error) for name in conditions)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def open_table(options: Options) -> SparkTable:
    """Start Spark, and name the table."""
    return SparkTable(start_session(options.store), options.table)


if __name__ == "__main__":
    sys.exit(run(SERVICE, open_table))
