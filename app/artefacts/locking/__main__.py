"""`python -m app.artefacts.locking [FOLDER]`: writes `artefacts.lock` after a change of `artefacts.toml`.

Both are in FOLDER, by default the root of the clone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from app.artefacts.locking.artefact_requirements import read_requirements
from app.artefacts.locking.cache import default_cache
from app.artefacts.locking.lock import LOCK_FILE, Lock, read_lock
from app.artefacts.locking.resolve import resolve
from app.errors import HeadwaterError


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[3]
    try:
        old = read_lock(root) if (root / LOCK_FILE).exists() else Lock({})
        new = resolve(read_requirements(root), old, default_cache())
        (root / LOCK_FILE).write_text(new.dump(), encoding="utf-8")
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
