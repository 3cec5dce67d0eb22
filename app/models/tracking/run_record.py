"""A model's run as a folder: `run.json`, and a folder of files for each model that it made.

The folder is written before the run is logged, and deleted when MLflow has all of it. So if a run could not be
logged, or was killed, the next run logs it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

RECORD = "run.json"
KEPT_MAX = 100  # runs that wait for MLflow; beyond it the oldest are deleted
_UNFINISHED = ".new"
_STALE_S = 86_400.0  # after this time the remains of a killed run are removed


Kind = Literal["sklearn", "factors"]


@dataclass(frozen=True)
class ModelRecord:
    """A model that a run made.

    Args:
        name: of the registered model. kind: scikit-learn's own format, or `factor_model`.
        inputs: the columns from which it predicts.
        files: the files in the folder of this name: file → SHA-256.
        tags: of the version: measure, value, hold-out.
        moves, rival, why: the verdict about the alias `champion`.
    """

    name: str
    kind: Kind
    inputs: list[str]
    files: dict[str, str]
    tags: dict[str, str]
    moves: bool = False
    rival: str = ""
    why: str = ""


@dataclass(frozen=True)
class RunRecord:
    """A run: its inputs, parameters, metrics and models. Times in ms since 1970."""

    id: str
    experiment: str
    artifacts: str
    began_ms: int
    ended_ms: int
    parameters: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    models: list[ModelRecord] = field(default_factory=list)


def sha256_of(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Return file → SHA-256 for the files of a folder."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def begin_record(waiting: Path, name: str) -> Path:
    """Make the folder for a run; it is valid only after `complete_record`."""
    for killed in waiting.glob(f"*{_UNFINISHED}"):
        if time.time() - killed.stat().st_mtime > _STALE_S:
            shutil.rmtree(killed, ignore_errors=True)
    folder = waiting / f"{name}{_UNFINISHED}"
    folder.mkdir(parents=True, mode=0o700)
    return folder


def complete_record(folder: Path, record: RunRecord) -> Path:
    """Write the record into its folder, which completes it; beyond KEPT_MAX folders the oldest are deleted.

    Returns: the folder's new path.
    """
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=1))
    complete = folder.with_name(folder.name.removesuffix(_UNFINISHED))
    os.replace(folder, complete)
    for old in records_of(folder.parent)[:-KEPT_MAX]:
        shutil.rmtree(old)
    return complete


def records_of(waiting: Path) -> list[Path]:
    """Return the folders of runs that MLflow does not have yet, the oldest first."""
    found = waiting.glob(f"*/{RECORD}") if waiting.is_dir() else ()
    return sorted(path.parent for path in found if not path.parent.name.endswith(_UNFINISHED))
