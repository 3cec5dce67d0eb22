"""Imports `superset/assets/` into Superset; service `superset-assets` (`python -m app.dashboards.load`).

1. Read the assets that suit this stack's source.
2. End where the mark says that exactly these were imported before: an edit that somebody made in
   the browser since outlives a restart.
3. Import them, and write the mark.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from app.dashboards.assets import archive, for_source, read_assets
from app.dashboards.client import Superset
from app.errors import HeadwaterError
from app.settings import ROOT, Settings, load

FOLDER = ROOT / "superset" / "assets"
ADMIN, ANALYST = "admin", "analyst"


def superset_url(settings: Settings) -> str:
    """Where this stack's Superset listens."""
    return f"http://{settings.address('superset')}"


def admin(settings: Settings) -> Superset:
    """This stack's Superset, logged in with the administrator's generated password."""
    return Superset(superset_url(settings), ADMIN, settings.secret("superset_admin_password"))


def import_assets(settings: Settings, mark: Path | None = None, folder: Path = FOLDER) -> int:
    """Import the assets of `folder`.

    Args:
        mark: a file with the hash of what was imported last; where it fits nothing is done.
    Returns: how many were imported.
    """
    assets = for_source(read_assets(folder), demo_store=settings.embedded_source)
    content = archive(assets, trino=settings.address("trino"))
    digest = hashlib.sha256(content).hexdigest()
    if mark is not None and mark.exists() and mark.read_text() == digest:
        return 0
    admin(settings).import_assets(content)
    if mark is not None:
        mark.write_text(digest)
    return len(assets)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app.dashboards.load")
    parser.add_argument("--mark", type=Path, help="remember here what was imported")
    given = parser.parse_args(arguments)
    try:
        count = import_assets(load(), given.mark)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"imported {count} assets" if count else "nothing has changed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
