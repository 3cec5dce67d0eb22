"""Requests a resync of a table if bronze has a wrong number of its events."""

from __future__ import annotations

import logging

import psycopg

from app.capture.resync import request
from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.source.database import address_of, connect
from app.source.source_tables import Names, source_tables
from spark_streaming.contract.names import topic_of

log = logging.getLogger("metrics")
REASON = "the number of its events in bronze differs from that in their transactions"


class Repair:
    """Requests resyncs of captured tables, which the service `capture` carries out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, table: str, incident: str) -> None:
        """Request a resync of `schema.table`, as its topic names it, that closes the incident.

        Repeating a request is harmless. A table that is not captured (any more) gets none.
        Raises: OSError if the source cannot be reached or refuses.
        """
        settings = self._settings
        names = Names.of(settings)
        topic = f"{settings.topic_prefix}.{table}"
        try:
            with connect(settings.source_dsn, application="headwater metrics") as connection:
                role = address_of(settings.capture_dsn).user
                wanted = [
                    one
                    for one in source_tables(connection, role, names.publication)
                    if one.published
                    and topic_of(settings.topic_prefix, one.schema, one.name) == topic
                ]
                if not wanted:
                    log.warning("%s is not captured any more: its incident stays open", table)
                request(connection, names, wanted, reason=REASON, incident=incident)
        except (HeadwaterError, psycopg.Error) as error:
            raise OSError(f"a resync of {table} could not be requested: {error}") from error
