"""The merge engines by name, and the choice between them: the only module that names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_streaming.job_settings import SilverSettings
    from spark_streaming.tables.engine_protocol import MergeEngine, RowsEngine

ENGINE_CHOICES = ("auto", "delta-rs", "spark")
CLUSTER_ROWS_MIN = 250_000


@dataclass(frozen=True)
class Engines:
    """What merges the parts of a batch.

    Args:
        driver: merges rows that the driver folded. executors: merges rows that Spark's executors folded; None: no
        part goes to them.
        large_min: offsets of a topic in a batch from which on the executors fold it; None: never.
    """

    driver: MergeEngine
    executors: RowsEngine | None = None
    large_min: int | None = None


# An engine's dependencies are imported when it is made, because the command line only needs the names.
def without_spark() -> MergeEngine:
    """The engine that needs no Spark and merges batches of any size."""
    from spark_streaming.tables.engines.delta_rs import DeltaRsEngine

    return DeltaRsEngine()


def _for_the_driver() -> MergeEngine:
    from spark_streaming.tables.engines.arrow_merge import ArrowEngine

    return ArrowEngine()


def engines_of(settings: SilverSettings, session: SparkSession) -> Engines:
    """The engines that the settings name. Raises: SettingsError if they name none."""
    from spark_streaming.storage.store_address import SettingsError
    from spark_streaming.tables.engines.spark_merge import SparkEngine

    name, large_min = settings.merge_engine, settings.spark_merge_rows_min or CLUSTER_ROWS_MIN
    spark = SparkEngine(session)
    one_machine = settings.spark_master.startswith("local") and not settings.spark_merge_rows_min
    if name == "delta-rs":
        return Engines(without_spark())
    if name == "auto":
        small = _for_the_driver()
        return Engines(small) if one_machine else Engines(small, spark, large_min)
    if name == "spark":
        # A part that the driver cannot hold at once reaches Spark's MERGE through executors only.
        large_min = min(large_min, settings.small_batch_offsets_max + 1)
        return Engines(spark, spark, large_min)
    raise SettingsError(
        f"setting HEADWATER_MERGE_ENGINE: {name!r} is none of {', '.join(ENGINE_CHOICES)}"
    )
