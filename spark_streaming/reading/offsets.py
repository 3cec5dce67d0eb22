"""Reads from the query's checkpoint which offsets a micro-batch covers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

Offsets = dict[str, dict[int, int]]
# Progress within a batch is counted in offsets of `BatchSpan.between`; WHOLE is the whole batch.
WHOLE = 2**32 - 1


def version_of(batch_id: int, reached: int = WHOLE) -> int:
    """Return the transaction version of a table's part of a batch that is merged up to `reached`.

    Versions grow with the batch and within it, so a part can be merged in several commits.
    """
    return batch_id << 32 | reached


def reached_in(version: int, batch_id: int) -> int:
    """Return how far a table with this newest version is merged in a batch: 0 to WHOLE."""
    batch = version >> 32
    if batch != batch_id:
        return WHOLE if batch > batch_id else 0
    return version & WHOLE


def slice_end(at: int, step: int, size: int, reached: int) -> int:
    """Return where a part's slice that begins at `at` ends, in offsets from 0 to `size`.

    A repeated batch may cut other slices, but one slice must end where the table's merges ended
    (`reached`), so that no merged event is folded again.
    """
    end = min(at + step, size)
    return reached if at < reached < end else end


def slice_version(batch_id: int, end: int, size: int) -> int:
    """Return the transaction version of a part's slice that ends at `end` of `size` offsets."""
    return version_of(batch_id, WHOLE if end == size else end)


@dataclass(frozen=True)
class BatchSpan:
    """The offsets of one batch: topic → partition → first offset, and → offset after the last.

    `end` has all partitions of the query, even those without events in the batch.
    """

    start: Offsets
    end: Offsets

    def sizes(self) -> dict[str, int]:
        """Return the number of offsets (records and transaction markers) of each topic with any."""
        sizes = {
            topic: sum(
                end - self.start.get(topic, {}).get(partition, 0)
                for partition, end in partitions.items()
            )
            for topic, partitions in self.end.items()
        }
        return {topic: size for topic, size in sizes.items() if size > 0}

    @property
    def size(self) -> int:
        """The number of offsets of all topics."""
        return sum(self.sizes().values())

    def of(self, topics: set[str]) -> BatchSpan:
        """Return the span of some topics only."""
        return BatchSpan(
            {t: p for t, p in self.start.items() if t in topics},
            {t: p for t, p in self.end.items() if t in topics},
        )

    def between(self, begin: int, end: int) -> BatchSpan:
        """Return the slice from `begin` to `end`, counted in offsets from 0 to `size`.

        All partitions advance at the same rate, so events that belong together are seldom cut
        apart. Consecutive slices cover every offset once, whatever their sizes.
        """
        size = self.size
        first = {t: {p: self.start.get(t, {}).get(p, 0) for p in ps} for t, ps in self.end.items()}

        def at(reached: int) -> Offsets:
            return {
                topic: {
                    partition: start + (self.end[topic][partition] - start) * reached // size
                    for partition, start in partitions.items()
                }
                for topic, partitions in first.items()
            }

        return BatchSpan(at(begin), at(end))


_PARTS = (".", "offsets", "commits", "sources/0")  # of a checkpoint


class OffsetLog:
    """Reads `<checkpoint>/offsets/<batch id>`, which Spark writes before it runs the batch."""

    def __init__(self, checkpoint_url: str, session: Any) -> None:
        self._url = checkpoint_url.rstrip("/")
        self._session = session

    def exists(self) -> bool:
        """Whether the query has a checkpoint."""
        try:
            return bool(self._read("metadata"))
        except FileNotFoundError:
            return False
        except Exception as error:
            if "FileNotFoundException" in str(error):
                return False
            raise

    def drop_unwritten(self) -> list[str]:
        """Remove the empty files that a power cut left in a checkpoint on a disk. Returns: their names.

        Nothing was merged by them: `flush` comes before the first merge of a batch. Spark refuses to start with them.
        """
        folder = self._folder()
        if folder is None:
            return []
        empty = [
            path
            for part in _PARTS
            for path in sorted((folder / part).glob("*"))
            if path.is_file() and path.stat().st_size == 0
        ]
        for path in empty:
            path.unlink()
        return [path.relative_to(folder).as_posix() for path in empty]

    def flush(self, batch_id: int) -> None:
        """Wait until a batch's plan, and how the one before ended, are on the disk; a store has them there anyhow."""
        folder = self._folder()
        if folder is None:
            return
        names = [f"offsets/{batch_id}", f"commits/{batch_id - 1}"]
        names += ["metadata", "sources/0/0"] if batch_id == 0 else []
        folders = {(folder / name).parent for name in names}
        for path in [*(folder / name for name in names), *folders]:
            if path.exists():
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    def _folder(self) -> Path | None:
        """The checkpoint's folder, if it is on a disk."""
        parsed = urlparse(self._url)
        return Path(unquote(parsed.path)) if parsed.scheme in ("", "file") else None

    def copy_from(self, checkpoint_url: str) -> None:
        """Make this checkpoint a copy of another; do nothing if the other does not exist."""
        jvm, conf = self._session._jvm, self._session._jsc.hadoopConfiguration()
        fs = jvm.org.apache.hadoop.fs
        source, target = fs.Path(checkpoint_url), fs.Path(self._url)
        files = source.getFileSystem(conf)
        if not files.exists(source):
            return
        files_here = target.getFileSystem(conf)
        files_here.delete(target, True)  # left by an unfinished copy
        fs.FileUtil.copy(files, source, files_here, target, False, conf)

    def query_id(self) -> str:
        """Return the query's id: the same after a restart, another with a new checkpoint."""
        return str(json.loads(self._read("metadata"))["id"])

    def span(self, batch_id: int) -> BatchSpan:
        """Return the span of a batch that is planned or done; Spark keeps the newest 20 batches."""
        end = self._offsets(batch_id)
        start = self._offsets(batch_id - 1) if batch_id > 0 else self._beginning()
        return BatchSpan(start, end)

    def _beginning(self) -> Offsets:
        """Return the query's first offsets, which its source stored before the first batch."""
        text = self._read("sources/0/0").lstrip("\0")
        return _parse_offsets(text.partition("\n")[2])

    def _offsets(self, batch_id: int) -> Offsets:
        return parse_offset_log(self._read(f"offsets/{batch_id}"))

    def _read(self, name: str) -> str:
        folder = self._folder()
        if folder is not None:
            return (folder / name).read_text()
        jvm = self._session._jvm
        path = jvm.org.apache.hadoop.fs.Path(f"{self._url}/{name}")
        stream = path.getFileSystem(self._session._jsc.hadoopConfiguration()).open(path)
        try:
            return str(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()


def parse_offset_log(text: str) -> Offsets:
    """Parse an entry of the offset log: a version line, a line of metadata, one line per source.

    Raises: ValueError unless it has exactly one source.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("v") or len(lines) != 3:
        raise ValueError(f"not an offset log of one source: {text[:80]!r}")
    return _parse_offsets(lines[2])


def _parse_offsets(text: str) -> Offsets:
    topics: dict[str, dict[str, int]] = json.loads(text)
    return {
        topic: {int(partition): offset for partition, offset in partitions.items()}
        for topic, partitions in topics.items()
    }
