"""Keeps the last observed state of the stream in a file: `data/capture/stream.json` in the home.

`status` and `recover` read it; after a restart the guard reads the heartbeat's count from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from app.environment.settings import Settings, write_private

FLOWS, BROKEN, UNKNOWN = "flows", "broken", "unknown"


@dataclass(frozen=True)
class StreamState:
    """The state of the stream.

    Args:
        state: FLOWS, BROKEN, or UNKNOWN if the source or Kafka Connect did not answer.
        kind: why it is broken, one of `continuity.KINDS`; "" if it is not.
        message, detail, hint: the failure, the observation, what to do.
        since: unix time in seconds at which this state was first observed.
        beat: the greatest count of the source's heartbeat that was observed; None before the first.
    """

    state: str = UNKNOWN
    kind: str = ""
    message: str = ""
    detail: str = ""
    hint: str = ""
    since: float = 0.0
    beat: int | None = None


def stream_file(settings: Settings) -> Path:
    """Return the path of the file."""
    folder = settings.home / "data" / "capture"
    return folder / (f"stream_{settings.source}.json" if settings.source else "stream.json")


def read_state(settings: Settings) -> StreamState:
    """Read the state that was written last; UNKNOWN if there is none."""
    try:
        found = json.loads(stream_file(settings).read_text())
        return StreamState(**{name: found[name] for name in asdict(StreamState()) if name in found})
    except (OSError, ValueError, TypeError):
        return StreamState()


def write_state(settings: Settings, state: StreamState) -> None:
    """Write the state for other processes, and for the next start."""
    path = stream_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, json.dumps(asdict(state)))
