"""The stack's buckets as a backup sees them: a listing from which every Delta table can be read.

A table's log is listed before its data: each file that a listed log entry names was put before that
entry. If an object vanishes before it is copied (VACUUM, clean-up of a log), everything is listed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import obstore

from spark_streaming.storage.store_address import ObjectStore
from spark_streaming.storage.store_clients import objects_below

OWN_FOLDER = "_headwater"
LOG = "_delta_log/"
# Overwritten in place, and may name a checkpoint that was not listed; every reader can do without.
HINT = "_delta_log/_last_checkpoint"


@dataclass(frozen=True)
class Listed:
    """An object of a listing: the bucket's role, its key, its size and the store's tag of its content."""

    role: str
    key: str
    size: int
    seen: str


class Buckets:
    """A stack's buckets: obstore's clients by role, `lake` and `bronze`."""

    def __init__(self, clients: Mapping[str, Any]) -> None:
        self.clients = clients

    @staticmethod
    def of(store: ObjectStore) -> Buckets:
        """The buckets of a store; both roles may be one bucket."""
        names = {"lake": store.lake_bucket, "bronze": store.bronze_bucket}
        if store.lake_bucket == store.bronze_bucket:
            del names["bronze"]
        return Buckets({role: objects_below(store, name, "") for role, name in names.items()})

    def listing(self) -> list[Listed]:
        """List all objects that belong to a backup, as the module's docstring describes."""
        found = {one.key: one for one in self._list("lake") if LOG in one.key}
        found |= {one.key: one for one in self._list("lake") if LOG not in one.key}
        bronze = self._list("bronze") if "bronze" in self.clients else iter(())
        return [*found.values(), *bronze]

    def get(self, one: Listed) -> Any:
        """Begin to read an object. Raises: FileNotFoundError if it has vanished."""
        return obstore.get(self.clients[one.role], one.key)

    def put(self, role: str, key: str, content: Any, attributes: Any) -> None:
        obstore.put(self.clients[role], key, content, attributes=attributes)

    def _list(self, role: str) -> Iterator[Listed]:
        for page in obstore.list(self.clients[role]):
            for one in page:
                key = one["path"]
                if f"/{OWN_FOLDER}/" in f"/{key}" or key.endswith(HINT):
                    continue
                yield Listed(role, key, one["size"], tag_of(one))


def tag_of(meta: Any) -> str:
    """Return the store's tag of a content, or its time if the store gives none."""
    return str(meta["e_tag"] or meta["last_modified"].isoformat())
