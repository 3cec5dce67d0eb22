"""`python -m app.deploy release FOLDER`: the files of a release, from a clean clone.

1. Refuse a clone with changes, or whose changelog has no entry for the version.
2. `headwater-VERSION.tar.gz`: the committed files, packed into the same bytes each time.
3. `headwater-VERSION.cdx.json`: the bill of materials.
4. `NOTES.md`: the version's part of the changelog.
5. `SHA256SUMS` of all of them, for `sha256sum --check`.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
from pathlib import Path

from app.deploy.release.bill_of_materials import bill
from app.environment.stamp import version
from app.errors import HeadwaterError

CHECKSUMS = "SHA256SUMS"
GIT_S_MAX = 120


def release(root: Path, folder: Path) -> list[Path]:
    """Write a release's files into `folder`. Returns: their paths.

    Raises: HeadwaterError if the clone is not a release yet; nothing is written then.
    """
    changed = git(root, "status", "--porcelain").decode().strip()
    if changed:
        raise HeadwaterError(
            "the clone has changes that are not committed",
            detail=changed,
            hint="commit them, or release from another clone",
        )
    number = version()
    notes = notes_of((root / "CHANGELOG.md").read_text(), number)
    name = f"headwater-{number}"
    archive = git(root, "archive", "--format=tar", f"--prefix={name}/", "HEAD")
    content = {
        f"{name}.tar.gz": gzip.compress(archive, mtime=0),
        f"{name}.cdx.json": bill(root).encode(),
        "NOTES.md": notes.encode(),
    }
    sums = [f"{hashlib.sha256(data).hexdigest()}  {file}\n" for file, data in content.items()]
    content[CHECKSUMS] = "".join(sums).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in content.items():
        (folder / file).write_bytes(data)
    return [folder / file for file in content]


def notes_of(changelog: str, number: str) -> str:
    """Return the changelog's text for a version. Raises: HeadwaterError if it says nothing."""
    heading = rf"^## \[?{re.escape(number)}\]?[^\n]*\n"
    found = re.search(rf"{heading}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    text = found.group(1).strip() if found else ""
    if not text:
        raise HeadwaterError(
            f"CHANGELOG.md has no entry for {number}",
            hint=f"name its part `## {number} - DATE`, and begin a new `## Unreleased`",
        )
    return f"# Headwater {number}\n\n{text}\n"


def git(root: Path, *words: str) -> bytes:
    """Return git's output. Raises: HeadwaterError with its own message."""
    ended = subprocess.run(["git", *words], cwd=root, capture_output=True, timeout=GIT_S_MAX)
    if ended.returncode != 0:
        raise HeadwaterError(f"`git {words[0]}` failed", detail=ended.stderr.decode().strip())
    return ended.stdout
