"""Real Spark and real delta-rs on the real object store; nothing else runs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.job_settings import SilverSettings, load_settings
from spark_streaming.session import start_session
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engine_protocol import MergeEngine
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from spark_streaming.tables.engines.delta_rs import DeltaRsEngine
from spark_streaming.tables.engines.spark_merge import SparkEngine
from spark_streaming.tables.silver_table import SilverTable, TableOptions
from tests.spark.shop import Shop
from tests.support.stack import JVM_OPTIONS, ROOT, fresh_stack

HERE = Path(__file__).parent

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MakeTable = Callable[[Contract], SilverTable]
# These tests check steps before the merge, which are equal for all engines, so the default run uses one.
BEFORE_THE_MERGE = ("test_quality.py", "test_replay.py")
NOT_NOTED = "[spark-looked_at]"  # a source that records no definitions; the first engine runs with both kinds


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of further engines `slow` if they repeat the first."""
    for item in items:
        repeats = item.path.name in BEFORE_THE_MERGE and not item.name.endswith("[arrow]")
        if item.path.parent == HERE and (repeats or item.name.endswith(NOT_NOTED)):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")
def silver_variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The job's environment variables, for an object store that runs for these tests."""
    from app.artefacts.dist import Artefacts

    with fresh_stack() as stack:
        stack.up("--only", "s3")
        artefacts = Artefacts(ROOT)
        artefacts.prepare(["spark"])
        options = tmp_path_factory.mktemp("jvm") / "options"
        options.write_text("\n".join(JVM_OPTIONS.values()))
        yield {
            **stack.settings.environment(),
            "HEADWATER_SPARK_CLASSPATH": ":".join(map(str, artefacts.classpath("spark"))),
            "HEADWATER_SILVER_DATA": str(tmp_path_factory.mktemp("silver")),
            "HEADWATER_SPARK_UI_PORT": "0",
            "HEADWATER_SPARK_JVM_OPTIONS": str(options),
        }


@pytest.fixture(scope="package")
def silver_settings(silver_variables: dict[str, str]) -> SilverSettings:
    """The job's settings."""
    with _environment(silver_variables):
        return load_settings(SilverSettings)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables temporarily, because the stacks of later tests inherit this process's."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="package")
def lake(silver_settings: SilverSettings) -> Lake:
    return Lake(silver_settings.store)


@pytest.fixture(autouse=True)
def own_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger for each test. With a shared one a job would resume tables that other tests left stopped,
    and read a log that grows with every test."""
    monkeypatch.setattr("spark_streaming.ops.ledger.LEDGER", f"ops/ledger_{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="package")
def spark(
    silver_settings: SilverSettings, silver_variables: dict[str, str]
) -> Iterator[SparkSession]:
    with _environment(silver_variables):
        session = start_session(silver_settings, "tests")
    yield session
    session.stop()


@pytest.fixture(params=["arrow", "delta-rs", "spark"])
def engine(request: pytest.FixtureRequest) -> MergeEngine:
    """Runs each test that uses it with every engine."""
    if request.param == "spark":
        return SparkEngine(request.getfixturevalue("spark"))
    return ArrowEngine() if request.param == "arrow" else DeltaRsEngine()


@pytest.fixture
def make_table(lake: Lake) -> MakeTable:
    """Makes an empty silver table of a contract, under a unique name."""

    def make(contract: Contract) -> SilverTable:
        name = f"{contract.table}_{uuid.uuid4().hex[:8]}"
        table = SilverTable(lake, name, contract, TableOptions())
        assert table.ensure()
        return table

    return make


@pytest.fixture
def shop(lake: Lake, engine: MergeEngine, tmp_path: Path) -> Shop:
    return Shop(lake, engine, tmp_path)
