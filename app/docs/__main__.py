"""`python -m app.docs`: write the reference pages and compose's keys; `python -m app.docs build FOLDER`: make the site."""

from __future__ import annotations

import sys
from pathlib import Path

from app.docs.compose_settings import COMPOSE_FILE, renew_compose
from app.docs.pages import FOLDER, renew
from app.errors import HeadwaterError


def main(arguments: list[str]) -> int:
    """Renew the written pages of `docs` and the keys in docker-compose.yml, and with `build FOLDER` make the site from all of `docs`."""
    for name in renew():
        print(f"wrote {FOLDER.name}/{name}", file=sys.stderr)
    if renew_compose():
        print(f"wrote {COMPOSE_FILE.name}", file=sys.stderr)
    if arguments[:1] == ["build"]:
        from app.docs.build import build

        try:
            build(Path(arguments[1]))
        except HeadwaterError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
