"""Replaying events one row at a time gives the source's rows, however the replay is divided."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rebuild.replay_rows import ReplayedRows
from spark_streaming.contract.canonical import canonical_row
from spark_streaming.contract.contract import Contract
from tests.unit.model import BAG, KEYED, history


@pytest.mark.parametrize("contract", [KEYED, BAG], ids=["keyed", "bag"])
@pytest.mark.parametrize("partitions", [1, 3])
@given(seed=st.integers(0, 2**32))
def test_replayed_events_give_the_rows_of_the_source(
    contract: Contract, partitions: int, seed: int
) -> None:
    random = Random(seed)
    partitions = 1 if contract is BAG else partitions
    source = history(random, contract, partitions, (8, 40), replays=contract is KEYED)
    for _ in range(random.randint(0, 2)):
        if contract is KEYED:
            source.lose_rows()
        source.resync(3)
        for _ in range(5):
            source.step()
    events = source.finish()
    with (
        tempfile.TemporaryDirectory() as folder,
        ReplayedRows(contract, Path(folder), lambda changes: changes) as replayed,
    ):
        while events:
            size = random.randint(1, 30)
            replayed.add(events[:size])
            events = events[size:]
        expected = Counter(canonical_row(contract, row) for row in source.content().elements())
        assert Counter(replayed.rows()) == expected


def test_file_of_replayed_rows_is_removed(tmp_path: Path) -> None:
    with ReplayedRows(KEYED, tmp_path, lambda changes: changes):
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
