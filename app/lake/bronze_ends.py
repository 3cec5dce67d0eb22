"""Which objects of bronze hold records that Kafka has just shown, asked again and again.

The embedded store reads the attributes of every file of a folder for a listing, unless it is asked
for what comes after a name (connect/README.md, Decisions). pyarrow asks for all, so this asks itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from xml.etree import ElementTree

import pyarrow.fs as pa_fs

from app.lake.hops import BLOCK_OFFSETS, last_object, last_offset
from app.lake.lakehouse import Lakehouse
from app.lake.s3_request import S3
from app.settings import Settings
from spark_streaming.bronze import OBJECT, first_offset

KEPT = 50  # objects of a partition; what is asked for is in the newest


class BronzeEnds:
    """The ends of partitions, as far as they were looked at; for one thread."""

    def __init__(self, settings: Settings) -> None:
        self._files = Lakehouse(settings).bronze_files()
        self._bucket = settings.bronze_bucket
        self._store = S3(
            settings.s3_endpoint,
            settings.profile.s3_region,
            settings.secret("s3_access_key"),
            settings.secret("s3_secret_key"),
        )
        self._objects: dict[str, list[str]] = {}
        self._end: dict[str, int] = {}

    def look(self, folder: str, offsets: Iterable[int]) -> dict[int, str]:
        """The objects of a partition's folder that hold the records at these offsets, by offset;
        those that are not there yet are left out.

        Raises: OSError, requests.RequestException.
        """
        wanted = sorted(offsets)
        self._follow(folder, wanted[-1])
        firsts = [first_offset(path) for path in self._objects.get(folder, [])]
        found: dict[int, str] = {}
        for offset in wanted:
            if offset >= self._end.get(folder, 0):
                break
            at = bisect_right(firsts, offset)
            path = self._objects[folder][at - 1] if at else last_object(self._files, folder, offset)
            if path is not None:
                found[offset] = path
        return found

    def _follow(self, folder: str, offset: int) -> None:
        """Take in the objects that are new, where `offset` is in none that is known.

        What is known is of one block of offsets, without a gap from the first of them on.
        """
        if offset < self._end.get(folder, 0):
            return
        known = self._objects.get(folder, [])
        new = self._after(known[-1]) if known else []
        found = known + new
        if not new and (
            not known or offset // BLOCK_OFFSETS > first_offset(known[-1]) // BLOCK_OFFSETS
        ):
            found = self._newest_block(folder)
        if found and found[-1:] != known[-1:]:
            self._objects[folder] = found[-KEPT:]
            self._end[folder] = last_offset(self._files, found[-1]) + 1

    def _newest_block(self, folder: str) -> list[str]:
        newest = last_object(self._files, folder)
        if newest is None:
            return []
        block = pa_fs.FileSelector(newest.rsplit("/", 1)[0])
        names = (info.path for info in self._files.get_file_info(block))
        return sorted(name for name in names if name.endswith(OBJECT))

    def _after(self, path: str) -> list[str]:
        """The objects behind this one in its folder, in order."""
        query = {
            "list-type": "2",
            "prefix": path.rsplit("/", 1)[0] + "/",
            "start-after": path,
        }
        answer = self._store.ask("GET", self._bucket, query=query)
        if not answer.ok:
            raise OSError(f"the store lists no objects of {self._bucket}: {answer.told()}")
        keys = (
            one.text or "" for one in ElementTree.fromstring(answer.body).iter() if _is_key(one)
        )
        # The store shows a put that is under way by its name with a UUID behind it.
        return sorted(key for key in keys if key.endswith(OBJECT))


def _is_key(element: ElementTree.Element) -> bool:
    return element.tag.rpartition("}")[2] == "Key"
