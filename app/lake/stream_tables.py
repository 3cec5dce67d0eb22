"""Lists the streams of a lake: tables without a source to compare them with."""

from __future__ import annotations

import os

from app.environment.settings import Settings
from spark_streaming.storage.lake import Lake
from spark_streaming.streams.stream_contract import Stream, read_streams, stream_folders


def declared_streams(settings: Settings) -> dict[str, Stream]:
    """Return the streams that contract files declare, by name; wrong files are skipped."""
    paths = os.pathsep.join(map(str, settings.contracts_folders))
    return read_streams(stream_folders(paths))[0]


def stream_tables(settings: Settings, lake: Lake) -> list[str]:
    """List the declared streams that have a silver table."""
    return [name for name in sorted(declared_streams(settings)) if lake.exists(f"silver/{name}")]


def left_out(tables: list[str]) -> str:
    """Return the note of `verify` about streams."""
    return (
        f"left out, for no source has them: the streams {', '.join(tables)} "
        "(`verify --bronze` checks their topics)"
    )
