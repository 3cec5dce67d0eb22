"""The engine for rows that the driver folded, and for rows that executors folded."""

from __future__ import annotations

from typing import Any, cast

import pytest

from spark_streaming.job_settings import SilverSettings
from spark_streaming.storage.store_address import ObjectStore, SettingsError
from spark_streaming.tables.engines.choice import ENGINE_CHOICES, engines_of


def _settings(name: str) -> SilverSettings:
    return SilverSettings.model_construct(
        store=ObjectStore(),
        merge_engine=name,
        spark_merge_rows_min=250,
        small_batch_offsets_max=50,
    )


@pytest.mark.parametrize(
    ("name", "driver", "executors", "large_min"),
    [
        ("auto", "delta-rs", "spark", 250),
        ("delta-rs", "delta-rs", None, None),
        ("spark", "spark", "spark", 51),
    ],
)
def test_the_setting_names_the_engine_of_each_way(
    name: str, driver: str, executors: str | None, large_min: int | None
) -> None:
    assert name in ENGINE_CHOICES
    found = engines_of(_settings(name), cast(Any, None))
    assert found.driver.name == driver
    assert (found.executors.name if found.executors else None) == executors
    assert found.large_min == large_min


def test_an_engine_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="HEADWATER_MERGE_ENGINE: 'third' is none of auto"):
        engines_of(_settings("third"), cast(Any, None))
