"""A Spark session that fits models: on this machine's cores, without a store, for as long as it is used."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spark_streaming.session import end_session
from spark_streaming.spark_home import make_spark_home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HEAP_MB = 1024
_LOOPBACK = "127.0.0.1"


@contextmanager
def model_session(heap_mb: int = HEAP_MB, master: str = "local[2]") -> Iterator[SparkSession]:
    """Start Spark in this process; afterwards its JVM has ended and its files are gone.

    Raises: SettingsError where a jar is missing.
    """
    with tempfile.TemporaryDirectory(prefix="headwater-models-") as folder:
        make_spark_home(Path(folder), heap_mb=heap_mb, bind=_LOOPBACK)
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.appName("models").master(master)
        for key, value in {
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.driver.host": _LOOPBACK,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": f"file://{folder}/tmp",
        }.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        try:
            yield session
        finally:
            end_session(session)
