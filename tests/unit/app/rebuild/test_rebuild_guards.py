"""Silver may have a topic's events before the bronze sink: a rebuild waits for them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow.fs as pa_fs
import pytest

from app.errors import HeadwaterError
from app.rebuild import rebuild_guards
from app.rebuild.rebuild_gaps import Gaps
from app.rebuild.rebuild_guards import source_table_of
from app.verify.verify_bronze import ExplainedGaps
from spark_streaming.events.event import RawEvent
from spark_streaming.reading.bronze import Bronze
from tests.support.bronze import write

TOPIC = "hw.public.Caf_"


def test_the_first_events_of_a_topic_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem())
    value = json.dumps({"source": {"schema": "public", "table": "Café"}}).encode()
    event = RawEvent(TOPIC, 0, 0, 0, None, value, [])
    monkeypatch.setattr("app.rebuild.rebuild_guards.time.sleep", lambda _: write(files, [event], 9))
    told: list[str] = []
    found = source_table_of(Bronze(files), TOPIC, "hw", told.append)
    assert found == ("public", "Café")
    assert told == [f"waiting for the first events of {TOPIC} in bronze"]


def test_a_topic_without_events_in_bronze_is_an_error_after_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem())
    monkeypatch.setattr(rebuild_guards, "SINK_WAIT_S", -1.0)
    with pytest.raises(HeadwaterError, match=f"bronze has nothing of {TOPIC}"):
        source_table_of(Bronze(files), TOPIC, "hw", print)


def test_a_rebuild_over_events_that_were_deleted_by_age_names_the_setting(tmp_path: Path) -> None:
    consumer = SimpleNamespace(
        partitions_for_topic=lambda _: {0},
        beginning_offsets=lambda places: dict.fromkeys(places, 900),
    )
    gaps = Gaps(consumer, TOPIC, ExplainedGaps(tmp_path / "bronze.json"), lambda _: 500)
    with pytest.raises(HeadwaterError, match="no longer has the beginning") as refused:
        gaps.explain(0, 0, 499)
    assert "before offset 500 were deleted by age" in (refused.value.detail or "")
    with pytest.raises(HeadwaterError, match="bronze has a gap"):
        gaps.explain(0, 600, 610)
