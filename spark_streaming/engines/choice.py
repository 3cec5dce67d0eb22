"""Which engine merges a folded batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from spark_streaming.engines.delta_rs import DeltaRsEngine
from spark_streaming.engines.protocol import MergeEngine
from spark_streaming.engines.spark_merge import SparkEngine
from spark_streaming.fold import Folded
from spark_streaming.settings import SilverSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def engine_chooser(
    settings: SilverSettings, session: SparkSession
) -> Callable[[Folded], MergeEngine]:
    """By the setting, or by the number of rows to merge where the setting is `auto`."""
    small, large = DeltaRsEngine(), SparkEngine(session)

    def choose(folded: Folded) -> MergeEngine:
        if settings.merge_engine == "auto":
            return large if len(folded.rows) >= settings.spark_merge_rows_min else small
        return large if settings.merge_engine == "spark" else small

    return choose
