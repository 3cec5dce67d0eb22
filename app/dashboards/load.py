"""Imports `superset/assets/` into Superset; service `superset-assets` (`python -m app.dashboards.load`).

1. Read the assets, and select those that suit this stack's source.
2. End if exactly these were imported before (`--mark` has their hash): an edit that was made in
the
   browser since then survives a restart.
3. Import them, and write the mark.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.dashboards.assets import archive, for_source, read_assets
from app.dashboards.superset_client import Superset
from app.environment.settings import ROOT, Settings, load
from app.environment.signed_in import without_user
from app.environment.trino_accounts import SUPERSET, trino_url_of
from app.errors import HeadwaterError

FOLDER = ROOT / "superset" / "assets"
ADMIN, ANALYST = "admin", "analyst"


def superset_url(settings: Settings) -> str:
    """Return the URL of the Superset that has the dashboards; one's own has its user and password in it."""
    if settings.profile.superset_url is not None:
        return settings.secret("superset_url")
    return f"http://{settings.ports.address('superset')}"


def admin(settings: Settings) -> Superset:
    """Log in as an administrator: of one's own Superset by its URL, else with the generated password."""
    url = superset_url(settings)
    parts = urlsplit(url)
    if parts.username is not None:
        return Superset(without_user(url), unquote(parts.username), unquote(parts.password or ""))
    return Superset(url, ADMIN, settings.secret("superset_admin_password"))


def import_assets(settings: Settings, mark: Path | None = None, folder: Path = FOLDER) -> int:
    """Import the assets of `folder`.

    Args:
        mark: a file with the hash of the last import; if it is equal, nothing is done.
    Returns: the number of imported assets.
    """
    assets = for_source(read_assets(folder), demo_store=settings.profile.embedded_source)
    profile = settings.profile
    trino = urlsplit(trino_url_of(settings, SUPERSET) if profile.trino_here else settings.trino_url)
    content = archive(assets, trino=trino.netloc, scheme=trino.scheme, as_people=profile.signed)
    digest = hashlib.sha256(content).hexdigest()
    if mark is not None and mark.exists() and mark.read_text() == digest:
        return 0
    admin(settings).import_assets(content)
    if mark is not None:
        mark.write_text(digest)
    return len(assets)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app.dashboards.load")
    parser.add_argument("--mark", type=Path, help="the file that records the import")
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
