"""A Spark session for a task, on this machine's cores. Only one task at a time has one."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app.artefacts.dist import Artefacts
from app.environment.settings import ROOT
from app.jobs.run_records import RUN_FOLDER, SCRATCH, runs_folder
from spark_streaming.session import end_session
from spark_streaming.spark_home import make_spark_home
from spark_streaming.storage.store_address import ObjectStore
from spark_streaming.storage.store_clients import give_keys, spark_writer_options

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HEAP_MB = 1024
_LOOPBACK = "127.0.0.1"
_CLASSPATH = "HEADWATER_SPARK_CLASSPATH"
_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.session.timeZone": "UTC",
}


@contextmanager
def spark_session(
    heap_mb: int = HEAP_MB, master: str = "local[2]", store: ObjectStore | None = None
) -> Iterator[SparkSession]:
    """Start Spark in this process; on exit its JVM is stopped and its files are removed.

    Args:
        store: the object store whose Delta tables the session reads and writes; None: no store, no key.
    Raises: SettingsError if a jar is missing.
    """
    _give_classpath()
    scratch = os.environ.get(RUN_FOLDER)  # which is cleared even if this process is killed
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=scratch) as folder:
        make_spark_home(Path(folder), heap_mb=heap_mb, bind=_LOOPBACK)
        from pyspark.sql import SparkSession

        settings = {
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.driver.host": _LOOPBACK,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": f"file://{folder}/tmp",
        }
        if store is not None:
            settings |= {**_DELTA, **spark_writer_options(store)}
        builder = SparkSession.builder.appName("task").master(master)
        for key, value in settings.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        try:
            if store is not None:
                give_keys(session, store)
            yield session
        finally:
            end_session(session)


@contextmanager
def only_spark(home: Path) -> Iterator[None]:
    """Wait until no other task of this home runs Spark; the task's timeout limits the wait."""
    folder = runs_folder(home).parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "spark.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting until another task's Spark has ended", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _give_classpath() -> None:
    """Set Spark's class path, which the launcher sets only for services, not for tasks."""
    if not os.environ.get(_CLASSPATH):
        artefacts = Artefacts(ROOT)
        artefacts.prepare(["spark"])
        os.environ[_CLASSPATH] = ":".join(map(str, artefacts.classpath("spark")))
