"""Which engine merges what the driver folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from spark_streaming.fold.keyed import Folded
from spark_streaming.job_settings import SilverSettings
from spark_streaming.tables.engine_protocol import MergeEngine
from spark_streaming.tables.engines.delta_rs import DeltaRsEngine
from spark_streaming.tables.engines.spark_merge import SparkEngine

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def engine_chooser(
    settings: SilverSettings, session: SparkSession
) -> Callable[[Folded], MergeEngine]:
    """For what the driver folded: delta-rs, unless Spark's MERGE is forced.

    Large parts never get here: see `routing`.
    """
    engine = SparkEngine(session) if settings.merge_engine == "spark" else DeltaRsEngine()
    return lambda folded: engine
