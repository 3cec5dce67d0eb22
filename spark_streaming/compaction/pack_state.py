"""How far a partition of bronze is packed: one object for each, replaced only if nobody replaced it meanwhile."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from spark_streaming.compaction.bronze_store import BronzeStore
from spark_streaming.reading.bronze_names import Span, state_path


@dataclass(frozen=True)
class Packing:
    """An object that is being packed: its offsets, and the paths of the objects that it is made of."""

    span: Span
    members: tuple[str, ...]


@dataclass(frozen=True)
class PackState:
    """What was packed.

    Args:
        packed_to: the last offset of the last packed object; -1 without one.
        packing: the one that follows, if it was begun and its end was not noted.
        kept_from: packed objects before this offset were deleted by age, or will be at once.
        etag: of the state as stored; "" of a new one.
    """

    packed_to: int = -1
    packing: Packing | None = None
    kept_from: int = 0
    etag: str = ""

    def to_json(self) -> bytes:
        """The state as the object's content."""
        said = asdict(self)
        del said["etag"]
        return json.dumps({"format": 1, **said}).encode()

    @classmethod
    def from_json(cls, text: bytes, etag: str) -> PackState:
        """Read what `to_json` wrote. Raises: ValueError, KeyError, TypeError for anything else."""
        said: dict[str, Any] = json.loads(text)
        packing = None
        if said["packing"]:
            packing = Packing(Span(*said["packing"]["span"]), tuple(said["packing"]["members"]))
        return cls(int(said["packed_to"]), packing, int(said["kept_from"]), etag)


def load(store: BronzeStore, topic: str, partition: int) -> PackState:
    """Return a partition's state. Raises: OSError; ValueError if the object holds something else."""
    path = state_path(topic, partition)
    stored = store.get(path)
    try:
        return PackState() if stored is None else PackState.from_json(stored.body, stored.etag)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error


def replace_state(
    store: BronzeStore, topic: str, partition: int, old: PackState, new: PackState
) -> bool:
    """Replace a partition's state. Returns: False if another one has replaced it since it was read."""
    return store.replace(state_path(topic, partition), new.to_json(), old.etag)
