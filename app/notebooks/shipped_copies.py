"""Copies the shipped notebooks into the home's folder, where users change them.

A notebook that its user has changed or removed is left alone. An unchanged one is updated: the
file `.shipped.json` has the digest of each copy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

SHIPPED = Path(__file__).with_name("shipped")
_DIGESTS = ".shipped.json"


def put_shipped(folder: Path, shipped: Path = SHIPPED) -> list[str]:
    """Copy notebooks that are new or have a newer version. Returns: the names of the written files."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = _read(folder / _DIGESTS)
    written = []
    for source in sorted(shipped.glob("*.py")):
        target, digest = folder / source.name, _digest(source)
        before = known.get(source.name)
        untouched = target.exists() and _digest(target) == before
        if (before is None and not target.exists()) or (untouched and digest != before):
            beside = target.with_name(f".{target.name}.new")
            shutil.copyfile(source, beside)
            beside.replace(target)
            written.append(source.name)
            known[source.name] = digest
    beside = folder / f"{_DIGESTS}.new"
    beside.write_text(json.dumps(known, indent=1))
    beside.replace(folder / _DIGESTS)
    return written


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
