"""`python -m spark_streaming.job`: the service `silver`, one streaming query over all tables."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from typing import Any

from spark_streaming.contract.table_share import TableShare
from spark_streaming.job_settings import SilverSettings, load_settings
from spark_streaming.ops.own_tables import OwnTables
from spark_streaming.reading.offsets import OffsetLog
from spark_streaming.session import end_session, readable, start_session
from spark_streaming.silver_query import OPS_TABLES, Silver
from spark_streaming.storage.driver_lease import DriverLease, StoredLease, Superseded, Term
from spark_streaming.storage.lake import (
    Lake,
)
from spark_streaming.storage.store_address import SettingsError
from spark_streaming.tables.seal import seal_tables

log = logging.getLogger("spark_streaming")
FILES_NAMED_MAX = 10


def main() -> int:
    """Run until SIGTERM (0) or until the query fails (1)."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("py4j").setLevel(logging.ERROR)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    try:
        settings = load_settings(SilverSettings)
        log.setLevel(settings.log_level)
        Lake(settings.store).for_writing()
        lease = _lead(settings)
    except SettingsError as error:
        log.error("%s", error)
        return 2
    except (OSError, Superseded) as error:
        log.error("%s", error)
        return 1
    settings = settings.model_copy(update={"checkpoint": lease.term.checkpoint})
    try:
        session = start_session(settings)
        if lease.term.copy_of:
            OffsetLog(settings.checkpoint_url, session).copy_from(lease.term.copy_of)
        if empty := OffsetLog(settings.checkpoint_url, session).drop_unwritten():
            log.warning(
                "after a power cut: %d files of the checkpoint were empty, and are removed: %s",
                len(empty),
                ", ".join(empty[:FILES_NAMED_MAX]),
            )
        lease.ready()
        silver = Silver(settings, session, Lake(settings.store).fenced(lease.check))
    except Exception as error:  # noqa: BLE001
        log.error(
            "Spark did not start\n  detail: %s\n  hint: is the port of its UI taken, or memory short?",
            readable(f"{type(error).__name__}: {error}"),
        )
        return 1
    # A batch creates several hundred thousand objects, and hardly any of them belong to reference cycles. With
    # Python's default thresholds the search for cycles took a large part of this process's CPU under load.
    gc.freeze()
    gc.set_threshold(500_000, 5, 5)
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    query = silver.start()
    code = _watch(silver, query, settings, asked_to_stop, lease)
    if code == 0:  # after a failure it is not awaited, because it may hang in the failed call
        end_session(session)
    return code


def _lead(settings: SilverSettings) -> DriverLease:
    """Wait until this is the one driver that works on the lake; shut out one that may still live.

    Raises: OSError, Superseded.
    """
    share = TableShare.of_settings(settings)
    objects = StoredLease(settings.store, settings.store.lake_bucket, share.number)
    lease = DriverLease(objects, Term(share.checkpoint(settings.checkpoint_url)))
    lease.wait()
    lease.keep()
    log.info("this is silver's driver, job %d, epoch %d", share.number, lease.epoch)
    if not lease.term.ready:
        lake = Lake(settings.store).fenced(lease.check)
        owned = OwnTables(lake, share, settings.topic_prefix)
        seal_tables(lake, lease.epoch, OPS_TABLES, owned.has, share.number)
    return lease


def _watch(
    silver: Silver,
    query: Any,
    settings: SilverSettings,
    asked_to_stop: threading.Event,
    lease: DriverLease,
) -> int:
    serving = False
    while not asked_to_stop.wait(0.25):
        if lease.lost:
            log.error("%s", lease.lost)
            return 1
        if not query.isActive:
            return _failed(query)
        query = silver.resized(query)
        if not serving and _is_ready(query):
            silver.metrics.serve(settings.bind, settings.metrics_port)
            serving = True
            log.info("silver is ready: %s", query.status["message"])
    if silver.stop(query, timeout_s=14):
        lease.release()
    log.info("silver has stopped")
    return 0


def _is_ready(query: Any) -> bool:
    """The query has finished a batch, or has found no new events in Kafka."""
    return query.lastProgress is not None or "Waiting for data" in query.status["message"]


def _failed(query: Any) -> int:
    error = query.exception()
    text = str(error) if error is not None else "the query ended by itself"
    log.error("the query failed\n  detail: %s", readable(text))
    return 1


if __name__ == "__main__":
    sys.exit(main())
