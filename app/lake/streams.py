"""The streams of a lake: tables that no database has, so that nothing there is to compare with."""

from __future__ import annotations

import os

from app.settings import Settings
from spark_streaming.lake import Lake
from spark_streaming.streams.contract import Stream, read_streams, stream_folders


def declared_streams(settings: Settings) -> dict[str, Stream]:
    """The streams that files declare, by name; files that are wrong are passed over."""
    paths = os.pathsep.join(map(str, settings.contracts_folders))
    return read_streams(stream_folders(paths))[0]


def stream_tables(settings: Settings, lake: Lake) -> list[str]:
    """The declared streams that have a silver table."""
    return [name for name in sorted(declared_streams(settings)) if lake.exists(f"silver/{name}")]


def left_out(tables: list[str]) -> str:
    """What `verify` says of them."""
    return (
        f"left out, for no source has them: the streams {', '.join(tables)} "
        "(`verify --bronze` checks their topics)"
    )
