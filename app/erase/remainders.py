"""What an erasure does not reach: what remains until when, and copies that are not touched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pyarrow.fs as pa_fs
from deltalake.exceptions import TableNotFoundError

from app.environment.settings import Settings
from app.erase.kafka_records import Span, retention_ms
from app.erase.receipt import Remainder
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.rebuild.extra_tables import ExtraTables
from app.serving.serving_address import publications

_YOURS = "your own retention"
# Segments end by size or, at the latest, after a week (Kafka's default).
SEGMENT = timedelta(days=7)


def remainders(
    settings: Settings,
    topic: str,
    log_retention: str,
    kept: Sequence[Span],
    dropped: Sequence[Span],
    bucket_keeps_versions: bool,
    now: datetime,
) -> list[Remainder]:
    """Return what may still hold data of the row.

    Args:
        log_retention: how long silver's table keeps its log, as its property says it.
        kept, dropped: what Kafka keeps of the row's events, and what it was told to delete.
    """
    found = [
        Remainder("source", "WAL, backups, standbys and dead row versions of Postgres", _YOURS),
        Remainder(
            "silver, history, quarantine",
            "the least and greatest values of removed files, in the Delta logs",
            f"{log_retention}, and the log's next clean-up after that",
        ),
        Remainder(
            "ops.verification", "the key, if the row differed in `verify --continuous`", "30 days"
        ),
        Remainder("backups", "copies of the buckets and of the home", _YOURS),
    ]
    if kept:
        limit = retention_ms(settings.kafka, topic)
        until = (
            "retention of the topic (no limit known)"
            if limit is None
            else f"{_at(now + timedelta(milliseconds=limit) + SEGMENT)} at the latest"
        )
        rows = sum(span.rows for span in kept)
        found.append(Remainder("kafka", f"{rows} records of the row in {topic}", until))
    if dropped:
        what = (
            "bytes of unreadable records in segments that newer records keep on the broker's disk"
        )
        found.append(Remainder("kafka", what, f"{_at(now + SEGMENT)} plus the topic's retention"))
    if bucket_keeps_versions:
        what = "older versions of objects: the bucket keeps them"
        found.append(Remainder("bronze", what, "the bucket's rule for noncurrent versions"))
    if settings.profile.audit:
        found.append(Remainder("ops.audit", "texts of queries that name the key", "90 days"))
        what = "texts of queries in the topic of the audit"
        found.append(Remainder("bronze", what, "the object store's own lifecycle rule"))
    return found


def log_retention(lake: Lakehouse, table: str) -> str:
    """Return how long a silver table keeps its Delta log, such as `15 minutes`."""
    try:
        found = lake.silver(table).metadata().configuration.get("delta.logRetentionDuration")
    except TableNotFoundError:
        found = None
    return str(found or "interval 30 days").removeprefix("interval ")


def copies(settings: Settings, lake: Lakehouse, table: str) -> list[str]:
    """Return the names of copies of a table that an erasure does not touch."""
    selector = pa_fs.FileSelector("silver", allow_not_found=True)
    names = [str(i.base_name) for i in lake.lake.filesystem().get_file_info(selector)]
    extra = {n for n in ExtraTables(lake).names() if n.startswith(f"{table}__")}
    versions = {n for n in names if n.startswith(f"{table}__v") and n[len(table) + 3 :].isdecimal()}
    found = [f"silver.{name}" for name in sorted(extra | versions)]
    found += [f"serving: {name}" for name in _published(settings, table)]
    return [*found, "tables of jobs (schemas `ml` and `files`), models, notebooks and exports"]


def _published(settings: Settings, table: str) -> list[str]:
    """Return the published tables that are made of a table; all of them could be, so each is named."""
    try:
        rows = publications(settings)
    except HeadwaterError:
        return []  # this stack has no serving database, or it is not started
    return [str(row[0]) for row in rows]


def _at(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
