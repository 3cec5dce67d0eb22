"""Names of bronze's objects: which offsets an object holds follows from its path. connect/README.md has the layout.

The sink's objects are named by their first offset, packed ones by their first and their last. The packed objects of a
partition follow each other from its beginning, so one number says what is packed: the last offset of the last one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

OBJECT = ".jsonl.gz"
BLOCK_OFFSETS = 10_000
# A folder of packed objects: some hundred of them where transactions are small.
SPAN_OFFSETS = 10_000_000
PARTITION = "partition="
BLOCK = "block="
# The sink takes the last folder below a partition for the newest: this one sorts before `block=`.
ARCHIVE = "archive"
_SPAN = "span="
_PACKED = re.compile(r"/archive/span=\d{16}/(\d{20})-(\d{20})\.jsonl\.gz$")


class Span(NamedTuple):
    """The first and the last offset of a packed object."""

    first: int
    last: int


def partition_folder(topic: str, partition: int) -> str:
    """Return the folder of a partition."""
    return f"{topic}/{PARTITION}{partition}"


def small_path(topic: str, partition: int, first: int) -> str:
    """Return the path of an object of the sink."""
    block = f"{BLOCK}{first // BLOCK_OFFSETS:016d}"
    return f"{partition_folder(topic, partition)}/{block}/{first:020d}{OBJECT}"


def packed_path(topic: str, partition: int, span: Span) -> str:
    """Return the path of a packed object."""
    folder = f"{ARCHIVE}/{_SPAN}{span.first // SPAN_OFFSETS:016d}"
    return (
        f"{partition_folder(topic, partition)}/{folder}/{span.first:020d}-{span.last:020d}{OBJECT}"
    )


def packed_span(path: str) -> Span | None:
    """Return the offsets of a packed object by its path; None of any other object."""
    found = _PACKED.search(path)
    return None if found is None else Span(int(found[1]), int(found[2]))


def first_offset(path: str) -> int:
    """Return the first offset of an object, with which its name begins."""
    return int(path.rsplit("/", 1)[1].split(".")[0].split("-")[0])


def block_number(block: str) -> int:
    """Return a block's number: its objects begin at that many BLOCK_OFFSETS or later."""
    return int(block.rsplit(BLOCK, 1)[1])


def span_number(folder: str) -> int:
    """Return the number of a folder of packed objects: they begin at that many SPAN_OFFSETS or later."""
    return int(folder.rsplit(_SPAN, 1)[1])


def spans_beyond(folders: Iterable[str], offset: int) -> list[str]:
    """Return the folders of packed objects that may hold offsets beyond this one, in order."""
    ordered = sorted((one for one in folders if _SPAN in one), key=span_number)
    # A packed object that ends beyond may begin in the folder before.
    early = [one for one in ordered if span_number(one) <= offset // SPAN_OFFSETS]
    return [*early[-1:], *ordered[len(early) :]]


def packed_beyond(paths: Iterable[str], offset: int) -> list[str]:
    """Return the packed objects that end beyond an offset, in order."""
    spans = [(span, path) for path in paths if (span := packed_span(path)) is not None]
    return [path for span, path in sorted(spans) if span.last > offset]


def not_packed(paths: Sequence[str], packed_to: int) -> list[str]:
    """Return the sink's objects that begin after `packed_to`: readers ignore the others."""
    return [path for path in paths if first_offset(path) > packed_to]


def state_path(topic: str, partition: int) -> str:
    """Return the path of the object that says how far a partition is packed."""
    return f"_headwater/packed/{topic}/{partition}.json"
