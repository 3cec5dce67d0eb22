"""What a backup holds: one small manifest, and a list of the copied objects.

Objects are stored under the checksum of their content, so a copy never changes: until a run ends by
replacing the manifest, the previous backup stays whole.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from app.errors import HeadwaterError

FORMAT = 1


@dataclass(frozen=True)
class Copied:
    """One object of a bucket, as it was copied.

    Args:
        role: the bucket: `bronze` or `lake`.
        seen: the store's tag of this content; the same tag later means that nothing changed.
        sha256: of the content, in hexadecimal.
        attributes: the object's metadata.
    """

    role: str
    key: str
    size: int
    seen: str
    sha256: str
    attributes: dict[str, str]

    @property
    def place(self) -> tuple[str, str]:
        return self.role, self.key


@dataclass(frozen=True)
class Manifest:
    """The head of a backup.

    Args:
        id: names the backup; each run makes another one.
        made_at: when the newest listing was made, ISO 8601 in UTC.
        headwater: the version that made it.
        list_sha256, home_sha256: the checksums under which the list and the home's files are stored.
        encrypted: whether the home's files are encrypted.
    """

    format: int
    id: str
    made_at: str
    headwater: str
    objects: int
    total_bytes: int
    list_sha256: str
    home_sha256: str
    encrypted: bool

    def to_bytes(self) -> bytes:
        """The manifest as its file's content: JSON, with a checksum of itself."""
        plain = asdict(self)
        return json.dumps({**plain, "sha256": _sum_of(plain)}, indent=1).encode()

    @staticmethod
    def from_bytes(content: bytes, place: str) -> Manifest:
        """Read a manifest. Raises: HeadwaterError if it is damaged or of a newer version."""
        try:
            plain = dict(json.loads(content))
            given = plain.pop("sha256")
            newer = int(plain["format"]) > FORMAT
            if not newer and given == _sum_of(plain):
                return Manifest(**plain)
        except (ValueError, KeyError, TypeError):
            newer = False
        if newer:
            raise HeadwaterError(
                f"the backup in {place} was made by a newer Headwater, {plain.get('headwater')}",
                hint="restore it with that version",
            )
        raise damaged(place, "manifest.json is not as it was written")


def damaged(place: str, detail: str) -> HeadwaterError:
    """The error for a backup whose checksums do not match."""
    return HeadwaterError(
        f"the backup in {place} is damaged; nothing was restored",
        detail=detail,
        hint="restore another copy of it, or bring this file back from your storage's own redundancy; a lake "
        "without its backup is made again from the source by `headwater up` in an empty home",
    )


def packed(entries: Iterable[Copied]) -> bytes:
    """Return a list of objects as JSON lines, compressed; the same list gives the same bytes."""
    lines = (json.dumps(asdict(one), separators=(",", ":")) for one in entries)
    return gzip.compress("\n".join(lines).encode(), compresslevel=3, mtime=0)


def unpacked(content: bytes) -> list[Copied]:
    """Read what `packed` made."""
    return [Copied(**json.loads(line)) for line in gzip.decompress(content).splitlines()]


def _sum_of(plain: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
