"""Maven coordinates: a file of a version, and its path in a repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from app.errors import HeadwaterError

# A coordinate becomes a path: nothing in it may leave the folder it is put in.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, order=True)
class Coordinate:
    """One file of one version: `group:artifact:version[:extension[:classifier]]`."""

    group: str
    artifact: str
    version: str
    extension: str = "jar"
    classifier: str = ""

    @classmethod
    def parse(cls, text: str) -> Coordinate:
        """Read a coordinate; raises HeadwaterError if it is not of the form above."""
        parts = text.split(":")
        valid = all(_PART.fullmatch(part) and ".." not in part for part in parts)
        if not 3 <= len(parts) <= 5 or not valid:
            raise HeadwaterError(
                f"`{text}` is not a Maven coordinate",
                hint="write group:artifact:version[:extension[:classifier]]",
            )
        return cls(*parts)

    def __str__(self) -> str:
        parts = [self.group, self.artifact, self.version, self.extension]
        return ":".join([*parts, self.classifier] if self.classifier else parts)

    @property
    def filename(self) -> str:
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{suffix}.{self.extension}"

    @property
    def path(self) -> str:
        """The file's path in any Maven repository, relative to its root."""
        folder = self.group.replace(".", "/")
        return f"{folder}/{self.artifact}/{self.version}/{self.filename}"

    def matches(self, pattern: str) -> bool:
        """Whether `group:artifact` matches the pattern, in which `*` matches any text."""
        return fnmatchcase(f"{self.group}:{self.artifact}", pattern)
