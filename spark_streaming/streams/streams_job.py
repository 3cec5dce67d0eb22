"""`python -m spark_streaming.streams.streams_job`: the service `streams`.

Each declared stream's events go from its topic into its append-only table. The service is a process
of its own, so a flood of logs does not slow the batches of captured tables. Without Spark it needs
120 MB.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from deltalake.exceptions import DeltaError
from kafka import TopicPartition
from kafka.errors import KafkaError

from spark_streaming.batch.upkeep.table_need import Need
from spark_streaming.batch.upkeep.table_upkeep import OpsTable, Run, finish, maintain_ops
from spark_streaming.job_settings import load_settings
from spark_streaming.ops.requests import STREAM_FOLDER, Desk
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.expired_events import Archive
from spark_streaming.reading.kafka_source import DirectReader, DirectReadError
from spark_streaming.storage.conditional_puts import OverwritingStore
from spark_streaming.storage.lake import Lake, bronze_files
from spark_streaming.storage.store_address import SettingsError
from spark_streaming.streams.audit.audit_stream import AuditStream, audit_stream
from spark_streaming.streams.audit.audit_writer import AuditWriter
from spark_streaming.streams.producer import ensure_topics
from spark_streaming.streams.stream_contract import Stream, read_streams, stream_folders
from spark_streaming.streams.stream_metrics import StreamMetrics
from spark_streaming.streams.stream_settings import StreamSettings
from spark_streaming.streams.stream_table import StreamError
from spark_streaming.streams.stream_writer import StreamQuarantine, StreamWriter, answer

log = logging.getLogger("streams")
POLL_S = 0.2
# How often files and requests are checked.
FILES_CHECK_S = 5.0
REQUESTS_CHECK_S = 1.0
BACKOFF_S = (1.0, 30.0)
# Failures that pass by themselves or are fixed from outside; others are defects and end the
# process.
RECOVERABLE = (StreamError, DirectReadError, DeltaError, KafkaError, OSError)
_QUERY_ID = "streams"


class Declared:
    """The stream files, which are read again when one of them has changed."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._stamp: object = None
        self._checked_at = -FILES_CHECK_S

    def changed(self) -> dict[str, Stream] | None:
        """The streams, if the files have changed since the last call; else None."""
        if time.monotonic() - self._checked_at < FILES_CHECK_S:
            return None
        self._checked_at = time.monotonic()
        files = [path for folder in self._folders for path in sorted(folder.glob("*.toml"))]
        stamp = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in files]
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        streams, problems = read_streams(self._folders)
        for problem in problems:
            log.error("a stream is left out: %s", problem)
        return streams


class FailureLog:
    """Counts a stream's failures in a row and decides when it is tried again."""

    def __init__(self) -> None:
        self.failures = 0
        self.not_before = 0.0
        self._logged = ""

    def failed(self, name: str, error: Exception) -> None:
        """Count a failure; log it if it is not the same as the last one."""
        self.failures += 1
        pause = min(BACKOFF_S[0] * 2 ** (self.failures - 1), BACKOFF_S[1])
        self.not_before = time.monotonic() + pause
        text = f"{type(error).__name__}: {error}"
        if text != self._logged:
            self._logged = text
            log.error("stream %s is stopped and will be tried again: %s", name, text)

    def passed(self, name: str) -> None:
        """Note a success."""
        if self.failures:
            log.info("stream %s continues after %d failed tries", name, self.failures)
            self.failures, self._logged = 0, ""


class Streams:
    """All streams of one lake, written in turn by one thread."""

    def __init__(self, settings: StreamSettings, declared: Declared | None = None) -> None:
        self._settings = settings
        self._lake = Lake(settings.store)
        archive = Archive(Bronze(bronze_files(settings.store)))
        self._reader = DirectReader(settings.kafka, archive)
        properties: dict[str, str | None] = {
            f"delta.{name}RetentionDuration": f"interval {settings.silver_retention_minutes} minutes"
            for name in ("log", "deletedFile")
        }
        self._quarantine = StreamQuarantine(self._lake, _QUERY_ID, properties)
        self._desk = Desk(self._lake, STREAM_FOLDER)
        self._declared = declared or Declared(stream_folders(settings.contracts_path))
        self._waiting: dict[str, Stream] | None = None  # read, but not applied yet
        self._requests_at = 0.0
        minutes, now = settings.silver_retention_minutes, time.monotonic()
        self._needs = [Need.of(minutes, now), Need.of(minutes, now)]
        self._due: dict[str, float] = {}
        self._failures: dict[str, FailureLog] = {}
        self.metrics = StreamMetrics()
        self.writers: dict[str, StreamWriter] = {}

    def turn(self) -> bool:
        """Take one turn over all streams. Returns: whether a stream has more events already.

        Raises: the errors in RECOVERABLE, if nothing can be done for any stream.
        """
        self._lake.for_writing()
        changed = self._declared.changed()
        self._waiting = self._waiting if changed is None else changed
        if self._waiting is not None:
            self._take_up(self._waiting)
            self._waiting = None
        ends = self._reader.ends([writer.topic for writer in self.writers.values()])
        more = [self._step(name, writer, ends) for name, writer in self.writers.items()]
        self._serve_requests()
        self._keep_quarantine()
        return any(more)

    def _take_up(self, streams: Mapping[str, Stream]) -> None:
        settings = self._settings
        self._quarantine.ensure()
        made = ensure_topics(
            settings.kafka, settings.topic_prefix, streams.values(), settings.topic_partitions
        )
        if settings.writes_audit:
            audit = audit_stream()
            made += ensure_topics(settings.kafka, settings.topic_prefix, [audit], partitions=1)
            streams = {**streams, audit.name: audit}
        if made:
            log.info("made topic(s) %s", ", ".join(made))
        for name in self.writers.keys() - streams.keys():
            log.warning("stream %s is no longer declared; its table stays as it is", name)
            del self.writers[name]
        for name, stream in streams.items():
            known = self.writers.get(name)
            if known is None:
                kind = AuditWriter if isinstance(stream, AuditStream) else StreamWriter
                self.writers[name] = kind(
                    settings, self._lake, self._reader, self._quarantine, stream, self.metrics
                )
            elif known.stream != stream:
                log.info("stream %s: its file has changed", name)
                known.follow(stream)
            self._failures[name] = FailureLog()

    def _step(self, name: str, writer: StreamWriter, ends: Mapping[TopicPartition, int]) -> bool:
        failures = self._failures[name]
        now = time.monotonic()
        if now < max(failures.not_before, self._due.get(name, 0.0)):
            return False
        mine = {place.partition: end for place, end in ends.items() if place.topic == writer.topic}
        try:
            if not mine:
                writer.table.ensure()  # SQL finds it before the first event
                return False
            before = writer.commits
            more = writer.step(mine)
        except RECOVERABLE as error:
            failures.failed(name, error)
            self.metrics.stopped(name, True)
            return False
        failures.passed(name)
        self.metrics.stopped(name, False)
        if writer.commits > before and not more:
            self._due[name] = now + self._settings.streams_commit_ms / 1000
        return more

    def _serve_requests(self) -> None:
        if time.monotonic() - self._requests_at < REQUESTS_CHECK_S:
            return
        self._requests_at = time.monotonic()
        for request in self._desk.pending():
            self._desk.answer(request, answer(self.writers, request))

    def _keep_quarantine(self) -> None:
        tables: tuple[OpsTable, OpsTable] = (self._quarantine, self._quarantine.events)
        for table, need in zip(tables, self._needs, strict=True):
            need.polled = True
            began = time.monotonic()
            if steps := need.due(began):
                run = Run()
                finish(maintain_ops(self._lake, table, run, need))
                need.done(steps, began, cleaned="vacuum" in run.done)


def run(streams: Streams, stop: threading.Event, address: str, port: int) -> None:
    """Take turns until `stop` is set; wait for a broker or object store that does not answer."""
    serving, failures = False, FailureLog()
    pause = 0.0
    while not stop.wait(pause):
        try:
            pause = 0.0 if streams.turn() else POLL_S
        except OverwritingStore:
            raise
        except RECOVERABLE as error:
            failures.failed("all", error)
            pause = max(POLL_S, failures.not_before - time.monotonic())
            continue
        failures.passed("all")
        if not serving:
            streams.metrics.serve(address, port)
            serving = True
            log.info("writing %s", ", ".join(sorted(streams.writers)) or "no stream yet")


def main() -> int:
    """Run until SIGTERM."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("kafka").setLevel(logging.ERROR)
    try:
        settings = load_settings(StreamSettings)
    except SettingsError as error:
        log.error("%s", error)
        return 2
    logging.getLogger().setLevel(settings.streams_log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        run(Streams(settings), stop, settings.bind, settings.streams_port)
    except OverwritingStore as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
