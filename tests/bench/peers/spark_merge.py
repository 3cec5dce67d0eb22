"""The job of peer `spark-merge`: each topic's changes by MERGE into a Delta table, as tutorials write it.

Started by `kafka_fed`, in the environment that `make_spark_home` has set.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from spark_streaming.session import LOCAL_CHECKPOINT, LOCAL_FILES

ROW = "struct<id: bigint, v: int, note: string, body: string, price: string, updated_at: string>"
ENVELOPE = f"op string, before {ROW}, after {ROW}"
TABLE = (
    "id BIGINT NOT NULL, v INT, note STRING, body STRING, price DECIMAL(12,2), updated_at TIMESTAMP"
)
CONFIGURATION = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.codegen.cache.maxEntries": "5000",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.properties.defaults.enableDeletionVectors": "true",
    # Without these two Spark starts the program `readlink` ten times a batch.
    "spark.sql.streaming.checkpointFileManagerClass": LOCAL_CHECKPOINT,
    "spark.hadoop.fs.file.impl": LOCAL_FILES,
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


def main(options: dict[str, Any]) -> None:
    builder = SparkSession.builder.appName("spark-merge").master("local[2]")
    for name, value in CONFIGURATION.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    for topic, table in options["topics"].items():
        path = f"{options['lake']}/{table}"
        spark.sql(f"CREATE TABLE IF NOT EXISTS delta.`{path}` ({TABLE}) USING delta")
        (
            spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", options["kafka"])
            .option("kafka.isolation.level", "read_committed")
            .option("subscribe", topic)
            .option("startingOffsets", "earliest")
            .load()
            .writeStream.queryName(table)
            .option("checkpointLocation", f"{options['checkpoints']}/{table}")
            .foreachBatch(lambda batch, _number, path=path: merge(batch, path))
            .start()
        )
    spark.streams.awaitAnyTermination()


def merge(batch: DataFrame, path: str) -> None:
    """Fold a batch to the newest event of each key, and merge it."""
    event = F.from_json(F.col("value").cast("string"), ENVELOPE)
    newest = Window.partitionBy("id").orderBy(F.desc("offset"))
    changes = (
        batch.where("value IS NOT NULL")  # a tombstone follows each delete
        .select("offset", event.alias("e"))
        .select(
            "offset", "e.op", F.coalesce("e.after.id", "e.before.id").alias("id"),
            "e.after.v", "e.after.note", "e.after.body",
            F.col("e.after.price").cast("decimal(12,2)").alias("price"),
            F.col("e.after.updated_at").cast("timestamp").alias("updated_at"),
        )
        .withColumn("rank", F.row_number().over(newest))
        .where("rank = 1")
    )  # fmt: skip
    values = {name: f"s.{name}" for name in ("id", "v", "note", "body", "price", "updated_at")}
    (
        DeltaTable.forPath(batch.sparkSession, path)
        .alias("t")
        .merge(changes.alias("s"), "t.id = s.id")
        .whenMatchedDelete("s.op = 'd'")
        .whenMatchedUpdate(set=values)
        .whenNotMatchedInsert("s.op <> 'd'", values=values)
        .execute()
    )


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
