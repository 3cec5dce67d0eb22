"""Finds the bronze objects that hold records that Kafka has just delivered.

To list a folder the embedded store reads the attributes of every file in it, unless it is asked for
names after a given one (connect/README.md, Decisions). pyarrow always lists all files, so this
module sends its own requests.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from xml.etree import ElementTree

import pyarrow.fs as pa_fs

from app.environment.settings import Settings
from app.lake.lakehouse import Lakehouse
from app.watch.edit_hops import last_object, last_offset
from spark_streaming.reading.bronze_names import BLOCK_OFFSETS, OBJECT, first_offset
from spark_streaming.storage.s3_request import ask

KEPT_OBJECTS = 50  # newest objects of a partition; the wanted offsets are in these


class BronzeEnds:
    """The known ends of bronze partitions; for use by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._files = Lakehouse(settings).bronze_files()
        self._store = settings.store
        self._objects: dict[str, list[str]] = {}
        self._end: dict[str, int] = {}

    def objects_of(self, folder: str, offsets: Iterable[int]) -> dict[int, str]:
        """Return offset → the object in a partition's folder that holds it, without missing ones.

        Raises: OSError, requests.RequestException.
        """
        wanted = sorted(offsets)
        self._follow(folder, wanted[-1])
        firsts = [first_offset(path) for path in self._objects.get(folder, [])]
        objects: dict[int, str] = {}
        for offset in wanted:
            if offset >= self._end.get(folder, 0):
                break
            at = bisect_right(firsts, offset)
            path = self._objects[folder][at - 1] if at else last_object(self._files, folder, offset)
            if path is not None:
                objects[offset] = path
        return objects

    def _follow(self, folder: str, offset: int) -> None:
        """List new objects if `offset` is after the known ones.

        The known objects belong to one block of offsets and follow each other without a gap.
        """
        if offset < self._end.get(folder, 0):
            return
        known = self._objects.get(folder, [])
        new = self._after(known[-1]) if known else []
        objects = known + new
        if not new and (
            not known or offset // BLOCK_OFFSETS > first_offset(known[-1]) // BLOCK_OFFSETS
        ):
            objects = self._newest_block(folder)
        if objects and objects[-1:] != known[-1:]:
            self._objects[folder] = objects[-KEPT_OBJECTS:]
            self._end[folder] = last_offset(self._files, objects[-1]) + 1

    def _newest_block(self, folder: str) -> list[str]:
        newest = last_object(self._files, folder)
        if newest is None:
            return []
        block = pa_fs.FileSelector(newest.rsplit("/", 1)[0])
        names = (info.path for info in self._files.get_file_info(block))
        return sorted(name for name in names if name.endswith(OBJECT))

    def _after(self, path: str) -> list[str]:
        """List the objects after this one in its folder, in order."""
        query = {
            "list-type": "2",
            "prefix": path.rsplit("/", 1)[0] + "/",
            "start-after": path,
        }
        answer = ask(self._store, "GET", self._store.bronze_bucket, query=query)
        if not answer.ok:
            raise OSError(
                f"the store lists no objects of {self._store.bronze_bucket}: {answer.summary()}"
            )
        keys = (
            one.text or "" for one in ElementTree.fromstring(answer.body).iter() if _is_key(one)
        )
        # The store lists an unfinished put under its name followed by a UUID.
        return sorted(key for key in keys if key.endswith(OBJECT))


def _is_key(element: ElementTree.Element) -> bool:
    return element.tag.rpartition("}")[2] == "Key"
