"""The engine for rows that the driver folded, and for rows that executors folded."""

from __future__ import annotations

from typing import Any, cast

import pytest

from spark_streaming.job_settings import SilverSettings
from spark_streaming.storage.store_address import ObjectStore, SettingsError
from spark_streaming.tables.engines.choice import CLUSTER_ROWS_MIN, ENGINE_CHOICES, engines_of


def _settings(name: str, master: str = "local[2]", least: int = 250) -> SilverSettings:
    return SilverSettings.model_construct(
        store=ObjectStore(),
        merge_engine=name,
        spark_master=master,
        spark_merge_rows_min=least,
        small_batch_offsets_max=50,
    )


@pytest.mark.parametrize(
    ("name", "driver", "executors", "large_min"),
    [
        ("auto", "arrow", "spark", 250),
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


@pytest.mark.parametrize(
    ("master", "large_min"), [("local[2]", None), ("spark://127.0.0.1:14042", CLUSTER_ROWS_MIN)]
)
def test_executors_take_large_parts_on_a_cluster_only(master: str, large_min: int | None) -> None:
    found = engines_of(_settings("auto", master, least=0), cast(Any, None))
    assert found.driver.name == "arrow"
    assert found.large_min == large_min
    assert (found.executors is None) == (large_min is None)


def test_an_engine_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="HEADWATER_MERGE_ENGINE: 'third' is none of auto"):
        engines_of(_settings("third"), cast(Any, None))
