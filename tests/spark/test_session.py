"""The Spark session on the local disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from spark_streaming.job_settings import SilverSettings


def local_files(spark: SparkSession, path: Path) -> tuple[Any, Any]:
    """Hadoop's file system of a local path, and the path for it."""
    jvm, jsc = spark._jvm, spark._jsc
    assert jvm is not None
    place = jvm.org.apache.hadoop.fs.Path(path.as_uri())
    return place.getFileSystem(jsc.hadoopConfiguration()), place


def test_a_local_file_gets_its_permissions_without_a_program(
    spark: SparkSession, tmp_path: Path
) -> None:
    jvm = spark._jvm
    assert jvm is not None
    files, place = local_files(spark, tmp_path / "file")
    assert files.getClass().getName() == "dev.headwater.spark.LocalFiles"
    files.create(place, True).close()
    for mode in ("600", "644", "751"):
        files.setPermission(place, jvm.org.apache.hadoop.fs.permission.FsPermission(mode))
        assert oct((tmp_path / "file").stat().st_mode & 0o777) == f"0o{mode}"


def test_the_jvms_command_line_holds_no_key_of_the_object_store(
    spark: SparkSession, silver_settings: SilverSettings
) -> None:
    jvm = spark._jvm
    assert jvm is not None
    pid = jvm.java.lang.ProcessHandle.current().pid()
    command = Path(f"/proc/{pid}/cmdline").read_text()
    assert "fs.s3a.endpoint" in command
    assert silver_settings.store.secret_key not in command
    assert silver_settings.store.access_key not in command


def test_the_ui_ends_no_job_at_a_pages_request(spark: SparkSession) -> None:
    assert spark.conf.get("spark.ui.killEnabled") == "false"


def test_renaming_replaces_nothing_by_halves(spark: SparkSession, tmp_path: Path) -> None:
    files, place = local_files(spark, tmp_path / "offsets")
    (tmp_path / "offsets").write_text("old")
    _, written = local_files(spark, tmp_path / ".offsets.tmp")
    out = files.create(written, True)
    out.write(bytearray(b"new"))
    out.close()
    assert files.rename(written, place)
    assert (tmp_path / "offsets").read_text() == "new"
    assert not (tmp_path / ".offsets.tmp").exists()
