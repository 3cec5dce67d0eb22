"""Finds the version of a silver table that has exactly the events that a ledger row lists as merged.

The version in the row does. So does a later one if no commit between them merged events: such
commits follow a schema change, replay from quarantine, compact files, or are somebody else's, which
must be seen. A batch may merge a table in several commits under several application ids, and the
ledger gets its row only after the last one.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from spark_streaming.storage.lake import Lake
from spark_streaming.tables.silver_table import CONTRACT_ID

_JOB = "headwater:"
# Application ids of the job's commits that merge no events from Kafka.
_WITHOUT_EVENTS = (CONTRACT_ID, "headwater:replay:")


def version_before_the_next_merge(
    ledger_version: int | None, newest: int, names_of: Callable[[int], list[str] | None]
) -> int:
    """Return the greatest version, from the ledger's on, without a later merge.

    Args:
        ledger_version: None if the ledger has no merge; version 0 is the newly created table.
        newest: the table's newest version.
        names_of: returns the application ids of a version's commit; None if its log is gone.
    """
    version = min(ledger_version or 0, newest)
    while version < newest:
        names = names_of(version + 1)
        if names is None or any(_merges(name) for name in names):
            break
        version += 1
    return version


def committed_names(lake: Lake, path: str, version: int) -> list[str] | None:
    """Read the application ids of a table's commit from its log; None if that is gone."""
    name = f"{path}/_delta_log/{version:020d}.json"
    try:
        with lake.filesystem().open_input_stream(name) as stream:
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return None
    # A commit has one action in each line, thousands of which may add files.
    actions = (json.loads(line) for line in lines if b'"txn"' in line[:16])
    return [str(action["txn"]["appId"]) for action in actions]


def _merges(name: str) -> bool:
    return name.startswith(_JOB) and not name.startswith(_WITHOUT_EVENTS)
