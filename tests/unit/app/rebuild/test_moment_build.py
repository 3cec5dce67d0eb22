"""A table of a moment is built in slices; a build that is interrupted anywhere continues to the same rows."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rebuild.moment import Cut, Moment
from app.rebuild.replay_rows import ReplayedRows
from spark_streaming.batch.rebuild_state import Rebuild, RebuildStore
from spark_streaming.batch.silver_rebuild import Builder
from spark_streaming.contract.canonical import canonical_row
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.lsn import Lsn
from spark_streaming.reading.events_by_time import EventsByTime
from spark_streaming.rules.contract_folder import ContractFolder
from tests.support.disk_lake import DiskLake
from tests.support.examples import examples
from tests.unit.app.rebuild.test_moment import WHEN, by_partition, remembered
from tests.unit.model import BAG, KEYED, Source

NO_SOURCE = "postgresql://nobody@127.0.0.1:1/none"
SLICES_UNTIL_KILLED_MAX = 3


class KilledError(Exception):
    """Simulates the end of the process."""


@pytest.mark.parametrize("contract", [KEYED, BAG], ids=["keyed", "bag"])
@settings(max_examples=examples(40))  # each builds real Delta tables
@given(seed=st.integers(0, 2**32))
def test_a_build_that_was_killed_goes_on_to_the_rows_of_the_moment(
    contract: Contract, seed: int
) -> None:
    random = Random(seed)
    source = remembered(seed, contract, 1 if contract is BAG else 2, resyncs=False)
    if not source.states:
        return
    commit, content = random.choice(source.states)
    moment = Moment(Lsn(commit), Lsn(commit), WHEN)
    with tempfile.TemporaryDirectory() as folder:
        lake = DiskLake(Path(folder))
        ContractStore(lake, NO_SOURCE).keep(contract)
        rows, cut = built(lake, random, source, moment)
        expected = Counter(canonical_row(contract, row) for row in content.elements())
        got = Counter(
            canonical_row(contract, [row[c.name] for c in contract.columns]) for row in rows
        )
        assert got == expected
        with ReplayedRows(contract, Path(folder), lambda changes: changes) as replayed:
            again = Cut(moment)
            replayed.add(feed(source, again, {}).take(1 << 30, 1 << 40))
            assert Counter(replayed.rows()) == expected
        assert (cut.ends, cut.beyond) == (again.ends, again.beyond)


def feed(source: Source, cut: Cut, offsets: dict[int, int]) -> EventsByTime:
    return EventsByTime(
        {p: cut.kept(p, some, offsets.get(p, 0)) for p, some in by_partition(source).items()}
    )


def built(
    lake: DiskLake, random: Random, source: Source, moment: Moment
) -> tuple[list[dict[str, Any]], Cut]:
    """The rows and the last cut of a build that is sometimes killed."""
    new = Rebuild("at-1", "films_then", "public", "films", "hw.public.films")
    while True:
        state = RebuildStore(lake).state(new.table, new.id) or new
        builder = Builder(
            lake,
            state,
            ContractFolder(),
            NO_SOURCE,
            prefix="hw",
            slice_events_max=random.randint(3, 12),
        )
        builder.begin()
        left = random.randint(1, SLICES_UNTIL_KILLED_MAX)

        def tick(state: Rebuild) -> None:
            nonlocal left
            del state
            left -= 1
            if left == 0:
                raise KilledError

        cut = Cut(moment)
        try:
            builder.run(feed(source, cut, dict(builder.state.offsets)), tick)
        except KilledError:
            continue
        assert builder.topic.silver is not None
        builder.topic.silver.ensure()
        return builder.topic.silver.handle().to_pyarrow_table().to_pylist(), cut
