"""Which metastore a profile names, and the settings that Trino gets for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.environment.keys.metastore_settings import MetastoreSettings
from app.environment.settings import load
from app.environment.toml_files import SettingsError
from app.launcher.control import Stack


def properties(**given: str) -> dict[str, str]:
    text = MetastoreSettings.model_validate(given).metastore_properties("here:9083", "s3://lake/")
    return dict(line.split("=", 1) for line in text.splitlines())


def test_by_default_the_catalog_is_files_in_the_lake() -> None:
    assert properties() == {
        "hive.metastore": "file",
        "hive.metastore.catalog.dir": "s3://lake/metastore",
        "hive.metastore.version-compatibility": "UNSAFE_ASSUME_COMPATIBILITY",
    }


def test_a_hive_metastore_is_the_service_or_ones_own() -> None:
    assert properties(metastore="hive") == {
        "hive.metastore": "thrift",
        "hive.metastore.uri": "thrift://here:9083",
    }
    two = "thrift://a.example:9083,thrift://b.example:9083"
    assert properties(metastore="hive", metastore_uri=two)["hive.metastore.uri"] == two


def test_glue_is_asked_with_the_keys_of_the_store_which_no_file_holds() -> None:
    found = properties(metastore="glue", metastore_uri="https://glue.example")
    assert found["hive.metastore"] == "glue"
    assert found["hive.metastore.glue.endpoint-url"] == "https://glue.example"
    assert found["hive.metastore.glue.aws-secret-key"] == "${ENV:HEADWATER_S3_SECRET_KEY}"
    assert "hive.metastore.glue.endpoint-url" not in properties(metastore="glue")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('metastore = "nessie"', "setting `metastore`"),
        ('metastore_uri = "thrift://h:9083"', "metastore_uri is for metastore = 'hive' or 'glue'"),
        ('metastore = "hive"\nmetastore_uri = "https://h"', "begins with thrift://"),
        ('metastore = "glue"\nmetastore_uri = "thrift://h:1"', "begins with https://"),
        ('metastore = "glue"\nmetastore_uri = "https://a,https://b"', "is one endpoint"),
        ('metastore = "hive"\nmetastore_uri = "h:9083"', "setting `metastore_uri`"),
        ('metastore = "hive"\nmetastore_uri = "thrift://u:p@h:1"', "setting `metastore_uri`"),
    ],
)
def test_an_address_of_another_kind_of_metastore_is_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"profile\.toml") as refused:
        load(tmp_path / "home", path)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("given", "runs"),
    [
        ({}, False),
        ({"metastore": "hive"}, True),
        ({"metastore": "hive", "metastore_uri": "thrift://h:9083"}, False),
        ({"metastore": "glue"}, False),
    ],
)
def test_the_service_runs_only_where_nobody_else_has_one(
    tmp_path: Path, given: dict[str, Any], runs: bool
) -> None:
    stack = Stack(load(tmp_path, **given))
    assert ({"metastore", "metastore-db"} <= {*stack.services}) is runs
    assert ("metastore" in stack._without_disabled(stack.services["trino"]).depends_on) is runs
