"""All collectors of one stack, wired to its settings."""

from __future__ import annotations

import time
from functools import partial

from app.counts.count_reader import FolderBronze
from app.counts.count_repair import Repair
from app.counts.keeping import Keeper
from app.environment.settings import Settings
from app.health.connector_health import ConnectWorkers
from app.jobs.dagster_client import DagsterClient
from app.jobs.job_folder import job_folders
from app.metrics.board import Board
from app.metrics.collector import Collector
from app.metrics.collectors.carriage import CarriageCollector, Kafka
from app.metrics.collectors.conditions import ConditionCollector, ask_trino
from app.metrics.collectors.connector_states import ConnectorCollector
from app.metrics.collectors.contract_targets import Contracts, contract_folders
from app.metrics.collectors.event_counts import CountsCollector
from app.metrics.collectors.hop_probe import ProbeCollector
from app.metrics.collectors.job_runs import JobCollector
from app.metrics.collectors.lake_size import (
    DeltaCollector,
    Listing,
    StoreCollector,
    bucket_listing,
    folder_listing,
)
from app.metrics.collectors.open_incidents import IncidentCollector
from app.metrics.collectors.processes import DiskCollector, ProcessCollector
from app.metrics.collectors.quality import QualityCollector
from app.metrics.collectors.rules_applied import RulesCollector
from app.metrics.collectors.silver_ledger import SilverState
from app.metrics.collectors.source_wal import SourceCollector, SourceSession
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.reading.bronze import Bronze
from spark_streaming.storage.lake import Lake, bronze_files
from spark_streaming.storage.store_address import ObjectStore, load_store
from spark_streaming.tables.silver_names import SilverNames


def all_collectors(settings: Settings, board: Board) -> list[Collector]:
    """Make all collectors, in the order in which they run."""
    store = load_store()
    lake = Lake(store)
    heartbeat = settings.profile.own_table("heartbeat")
    session = SourceSession(settings.capture_dsn, heartbeat)
    names = SilverNames(lake)
    kafka = Kafka(settings.kafka, settings.topic_prefix, heartbeat, time.monotonic, names)
    contracts = Contracts(contract_folders(), names=names.of)
    silver = SilverState(lake, contracts.target_s)
    listings, events = _bucket_readers(settings, store, lake)
    inventory = StoreCollector(listings, board, names.of)
    incidents = IncidentLog(lake)
    keeper = Keeper(lake.filesystem(), f"{store.bronze_bucket}.{settings.topic_prefix}")
    counts = CountsCollector(
        kafka, events, settings.topic_prefix, keeper, incidents, Repair(settings), board, names
    )
    jobs = (
        [
            JobCollector(
                job_folders(settings),
                DagsterClient(f"http://{settings.ports.address('jobs')}"),
                board,
            )
        ]
        if settings.profile.jobs
        else []
    )
    rules = [RulesCollector(settings.home, board)] if settings.profile.signed else []
    return [
        SourceCollector(session, settings.profile.slot_name, board),
        ConnectorCollector(ConnectWorkers.of(settings), board),
        CarriageCollector(kafka, silver, board),
        ProcessCollector(settings.home, board),
        ProbeCollector(session, kafka, silver, settings.trino_url, board),
        inventory,
        counts,
        DeltaCollector(lake, lambda: inventory.tables, board),
        QualityCollector(lake, board),
        ConditionCollector(contracts.conditions, ask_trino(settings.trino_url), board),
        DiskCollector(settings.home, board),
        IncidentCollector(silver.stopped, board, incidents),
        *jobs,
        *rules,
    ]


def _bucket_readers(
    settings: Settings, store: ObjectStore, lake: Lake
) -> tuple[dict[str, Listing], Bronze]:
    """Return (the lister of each bucket, the reader of bronze's objects)."""
    # A container does not see the object store's files.
    if settings.profile.objects_here and not settings.profile.in_containers:
        files = settings.home / "data" / "s3"
        bronze_folder = files / store.bronze_bucket
        listings: dict[str, Listing] = {
            "bronze": partial(folder_listing, bronze_folder),
            "lake": partial(folder_listing, files / store.lake_bucket),
        }
        return listings, FolderBronze(bronze_folder)
    listings = {
        "bronze": lambda: bucket_listing(bronze_files(store)),
        "lake": lambda: bucket_listing(lake.filesystem()),
    }
    return listings, Bronze(bronze_files(store))
