"""Artefacts that are opened at their first use.

`status`, `down` and `urls` need no lock file, no network client and none of their start-up time;
a stack without artefacts needs no `artefacts.toml` at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.artefacts.dist import Artefacts


class LazyArtefacts:
    """The artefacts of the clone at `root`; `show` shows the progress of downloads on stderr."""

    def __init__(self, root: Path, *, show: bool = False) -> None:
        self._root = root
        self._show = show
        self._opened: Artefacts | None = None

    def _open(self) -> Artefacts:
        if self._opened is None:
            from app.artefacts.dist import Artefacts
            from app.artefacts.download_progress import Quiet, progress_on_stderr

            self._opened = Artefacts(
                self._root, progress=progress_on_stderr() if self._show else Quiet()
            )
        return self._opened

    def prepare(self, groups: Sequence[str]) -> None:
        """Fetch and build the missing files of the groups."""
        if groups:
            self._open().prepare(groups)

    def classpath(self, group: str) -> list[Path]:
        return self._open().classpath(group)

    def directory(self, group: str) -> Path:
        return self._open().directory(group)

    def java(self) -> Path:
        return self._open().java()
