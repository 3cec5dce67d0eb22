"""All collectors of one stack, wired to its settings."""

from __future__ import annotations

import time
from functools import partial
from urllib.parse import urlsplit

from app.metrics.board import Board
from app.metrics.carriage import CarriageCollector, Kafka
from app.metrics.conditions import ConditionCollector, ask_trino
from app.metrics.connectors import ConnectorCollector
from app.metrics.contracts import Contracts, contract_folders
from app.metrics.exporter import Collector
from app.metrics.incidents import IncidentCollector
from app.metrics.probe import ProbeCollector
from app.metrics.processes import DiskCollector, ProcessCollector
from app.metrics.quality import QualityCollector
from app.metrics.silver import SilverState
from app.metrics.source import SourceCollector, SourceSession
from app.metrics.store import (
    DeltaCollector,
    Listing,
    StoreCollector,
    bucket_listing,
    folder_listing,
)
from app.settings import Settings
from spark_streaming.lake import Lake
from spark_streaming.settings import load_store_settings


def all_collectors(settings: Settings, board: Board) -> list[Collector]:
    """The collectors, in the order in which they look."""
    store = load_store_settings()
    lake = Lake(store)
    bronze = Lake(store.model_copy(update={"lake_bucket": settings.bronze_bucket}))
    url = urlsplit(settings.trino_url)
    trino = url.hostname or "127.0.0.1", url.port or 80
    heartbeat = settings.own_table("heartbeat")
    session = SourceSession(settings.capture_dsn, heartbeat)
    kafka = Kafka(settings.kafka, settings.topic_prefix, heartbeat, time.monotonic)
    contracts = Contracts(contract_folders())
    silver = SilverState(lake, contracts.target_s)
    # A container has only its own files.
    if settings.embedded_s3 and not settings.in_containers:
        files = settings.home / "data" / "s3"
        listings: dict[str, Listing] = {
            "bronze": partial(folder_listing, files / settings.bronze_bucket),
            "lake": partial(folder_listing, files / settings.lake_bucket),
        }
    else:
        listings = {
            "bronze": lambda: bucket_listing(bronze.filesystem()),
            "lake": lambda: bucket_listing(lake.filesystem()),
        }
    inventory = StoreCollector(listings, board)
    return [
        SourceCollector(session, settings.profile.slot_name, board),
        ConnectorCollector(settings.connect_url, board),
        CarriageCollector(kafka, silver, board),
        ProcessCollector(settings.home, board),
        ProbeCollector(session, kafka, silver, trino, board),
        inventory,
        DeltaCollector(lake, lambda: inventory.tables, board),
        QualityCollector(lake, board),
        ConditionCollector(contracts.conditions, ask_trino(trino), board),
        DiskCollector(settings.home, board),
        IncidentCollector(silver.stopped, board),
    ]
