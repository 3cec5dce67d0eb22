"""`headwater clean`: removes files from the cache that no version needs."""

from __future__ import annotations

import sys

import typer

from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_rows


def clean(
    dry_run: bool = typer.Option(False, "--dry-run", help="Only print what would be removed."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Remove files from the cache that no clone and no running stack needs, and print their size.

    That is: downloads, programs and Python environments of other versions, JVMs' start-up caches that
    were not used for 30 days, remains of interrupted commands; and, if this stack is stopped, its temporary files.
    Clones record the files that they need at each `up`. A stopped clone of a version
    without this verb may have to download again.

    Examples:
      ./headwater clean --dry-run
      ./headwater clean
    """
    from app.artefacts.cache_claims import claim, claimed, cleaning
    from app.artefacts.cache_cleaning import find_waste, freed_bytes, remove, waste_of_home
    from app.artefacts.dist import Artefacts
    from app.environment.settings import ROOT, load
    from app.launcher.state import Home
    from app.processes.identity import Shelter, unprivileged_identity

    home = Home(load().home)
    artefacts = Artefacts(ROOT)
    with cleaning(artefacts.cache):
        claim(artefacts.cache, ROOT, artefacts.needs())
        needed = claimed(artefacts.cache, ROOT)
        waste = find_waste(artefacts.cache, needed)
        if not home.is_supervised():
            shelter = Shelter(home.path, unprivileged_identity()).folder
            waste += waste_of_home(home.path, shelter, needed)
        freed = freed_bytes(waste)
        if not dry_run:
            remove(artefacts.cache, waste)
    counts = {kind: sum(one.kind == kind for one in waste) for kind in freed}
    rows = [(kind, counts[kind], round(size / 1e6, 1)) for kind, size in freed.items()]
    print_rows(("what", "entries", "megabytes"), rows, fmt)
    total = f"{sum(freed.values()) / 1e9:.2f} GB"
    done = f"{total} would be removed" if dry_run else f"removed {total}"
    print(
        f"{done} from {artefacts.cache} and this home" if waste else "nothing to remove",
        file=sys.stderr,
    )
