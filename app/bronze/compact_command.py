"""Packs bronze now: `headwater bronze compact`."""

from __future__ import annotations

import sys
from dataclasses import astuple, replace

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.printing import Steps, print_rows
from spark_streaming.compaction.bronze_store import BronzeStore
from spark_streaming.compaction.compactor import Compactor, Done
from spark_streaming.compaction.packing import Limits
from spark_streaming.compaction.passes import Budget, Passes
from spark_streaming.ops.erase_requests import planned_topics
from spark_streaming.storage.lake import Lake

COLUMNS = ("packed", "joined", "deleted", "expired", "bytes_before", "bytes_after")
ENDLESS = Budget(float("inf"), sys.maxsize)


def run_compact(
    settings: Settings, tables: list[str], fmt: str, every: bool, young_s: float, kept_s: float
) -> int:
    """Pack the tables' topics, or all of the prefix; print what was done. Returns: the exit code.

    Args:
        every: also pack objects that do not fill a large one.
        young_s, kept_s: see `Limits`.
    Raises: HeadwaterError.
    """
    limits = replace(Limits(), young_s=young_s or -1.0, kept_s=kept_s or -1.0)
    if every:
        limits = replace(limits, old_s=-1.0, old_objects=2)
    lake = Lakehouse(settings)
    files = lake.lake.filesystem()
    passes = Passes(
        BronzeStore(settings.store),
        settings.topic_prefix,
        lambda: planned_topics(files),
        limits=limits,
        keep_days=settings.profile.bronze_keep_days,
    )
    with Steps() as steps:
        try:
            done = passes.run(
                ENDLESS,
                topics_of(lake, tables),
                tick=lambda place, done: steps.waiting(
                    f"bronze: {done.joined:,} objects packed into {done.packed:,}: {place}"
                ),
            )
        except OSError as error:
            raise HeadwaterError(
                "the object store did not answer, or refused",
                detail=str(error),
                hint="`./headwater status s3`; run this again: it continues where it was",
            ) from error
    print_rows(COLUMNS, [astuple(done)[: len(COLUMNS)]], fmt)
    for topic in sorted(done.waiting):
        print(
            f"{topic} waits: an erasure is not finished; run it again for its key", file=sys.stderr
        )
    for trouble in done.troubles:
        print(trouble, file=sys.stderr)
    return 1 if done.troubles else 0


def topics_of(lake: Lakehouse, tables: list[str]) -> set[str]:
    """Return the topics of silver's tables. Raises: HeadwaterError for an unknown one."""
    entries = lake.ledger()
    unknown = sorted(set(tables) - entries.keys())
    if unknown:
        raise HeadwaterError(
            f"there is no silver table {', '.join(unknown)} in the ledger",
            hint=f"there are {', '.join(sorted(entries)) or 'none yet'}",
        )
    return {topic for table in tables for topic in entries[table].offsets}


def compactor_of(settings: Settings, lake: Lake) -> Compactor:
    """Return what packs this stack's bronze, for one partition at a time."""
    files = lake.filesystem()
    return Compactor(BronzeStore(settings.store), lambda: planned_topics(files), Limits(), Done())
