"""The Spark session of the streaming job, on the JRE that the environment's wheel brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_streaming.job_settings import SilverSettings, file_url
from spark_streaming.spark_home import HERE, LOG4J, make_spark_home
from spark_streaming.storage.store_clients import give_keys, spark_writer_options

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOCAL_CHECKPOINT = (
    "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
)
LOCAL_FILES = "dev.headwater.spark.LocalFiles"


def start_session(settings: SilverSettings, app_name: str = "silver") -> SparkSession:
    """Start Spark in this process, with Delta, Kafka and S3A.

    Raises: SettingsError if a jar or the JRE is missing.
    """
    make_spark_home(settings.data, heap_mb=settings.spark_heap_mb, bind=settings.bind)
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(app_name).master(settings.spark_master)
    for key, value in _configuration(settings).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    give_keys(session, settings.store)
    return session


def end_session(session: SparkSession) -> None:
    """Stop Spark, and wait until its JVM has ended, because the JVM may still write files.

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


def readable(text: str) -> str:
    """Return the message of a query's failure without the JVM's stack, with a hint if there is one."""
    lines = [line for line in text.splitlines() if not line.startswith(("\tat ", "JVM stack"))]
    message = "\n".join(lines)[:4000]
    if "data loss" in message.lower() or "failOnDataLoss" in message:
        message += (
            "\n  hint: a topic was deleted or made again, so its offsets begin anew; what silver had "
            "not merged is in bronze. Rebuild the tables from there, then start again with a new "
            "checkpoint"
        )
    return message


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
        # An idle topic gets a batch only if it has events.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.streaming.stopTimeout": "15s",
        "spark.sql.streaming.minBatchesToRetain": "20",
        "spark.sql.streaming.numRecentProgressUpdates": "5",
        "spark.sql.sources.partitionOverwriteMode": "static",
    }
    if settings.checkpoint_url.startswith("file:"):
        # Spark's default uses Hadoop's FileContext, which starts the program `readlink` ten times a batch. By this
        # one too a rename is atomic on a local disk.
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
    if settings.spark_master.startswith("spark://"):
        process |= _executors(settings)
    return {**delta, **engine, **process, **spark_writer_options(settings.store)}


def _executors(settings: SilverSettings) -> dict[str, str]:
    """The configuration of executors that run in separate processes."""
    return {
        "spark.driver.bindAddress": settings.bind,
        "spark.driver.host": settings.spark_driver_host,
        "spark.executor.memory": f"{settings.spark_executor_mb}m",
        "spark.executor.cores": "1",
        "spark.executor.extraJavaOptions": (
            f"-Xss4m -Dlog4j2.configurationFile={LOG4J} -XX:+ExitOnOutOfMemoryError "
            "-XX:MaxMetaspaceSize=256m -XX:ReservedCodeCacheSize=128m"
        ),
        # What one executor folded is on its disk; a lost one's part is folded again from the events.
        "spark.task.maxFailures": "8",
        "spark.executor.logs.rolling.strategy": "size",
        "spark.executor.logs.rolling.maxSize": str(8 << 20),
        "spark.executor.logs.rolling.maxRetainedFiles": "2",
        # A worker that was killed is noticed by its closed connection; one that hangs, by this.
        "spark.network.timeout": "60s",
        "spark.executor.heartbeatInterval": "10s",
    }
