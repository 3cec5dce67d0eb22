"""The note in a home whose lake is older than the home: `restored.json`, written by `headwater restore`.

Such a home has no Kafka data of the lake's events, so it captures under a topic prefix of its own and
has every table read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from app.environment.settings import write_private
from app.errors import HeadwaterError

NOTE = "restored.json"


@dataclass(frozen=True)
class RestoredLake:
    """Where the lake of a home comes from.

    Args:
        origin: the backup's identifier; "" for a bucket that outlived its home.
        complete: whether all objects of the backup are in the buckets.
        announced: whether `up` has shown how the stream continued.
    """

    origin: str
    complete: bool = False
    announced: bool = False


def read_restored(home: Path) -> RestoredLake | None:
    """Read the note of a home; None if its lake is its own."""
    try:
        return RestoredLake(**json.loads((home / NOTE).read_text()))
    except FileNotFoundError:
        return None


def write_restored(home: Path, restored: RestoredLake) -> None:
    """Write the note of a home."""
    write_private(home / NOTE, json.dumps(asdict(restored)))


def refuse_half_restored(home: Path) -> None:
    """Raise HeadwaterError if a restore into this home has begun and not ended."""
    restored = read_restored(home)
    if restored is not None and not restored.complete:
        raise HeadwaterError(
            "a restore into this home was interrupted, so its lake is not whole",
            detail=f"home {home}",
            hint="run the same `headwater restore` again: it continues",
        )


def next_prefix(used: Iterable[str]) -> str:
    """Return a topic prefix that follows all of these: `hw`, `hw2` → `hw3`."""
    split = [re.fullmatch(r"(.*?)(\d*)", prefix) for prefix in used]
    numbers = [(int(one[2] or 1), one[1]) for one in split if one is not None]
    number, name = max(numbers)
    return f"{name}{number + 1}"
