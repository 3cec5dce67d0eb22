"""The pages of `docs/reference` that are written from the code: lists, compares and renews them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from app.docs.commands_page import commands_page
from app.docs.metrics_page import metrics_page
from app.docs.package_picture import packages_svg
from app.docs.services_page import services_page
from app.docs.settings_page import settings_page
from app.docs.tables_page import tables_page

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "settings.md": settings_page,
    "services.md": services_page,
    "tables.md": tables_page,
    "metrics.md": metrics_page,
    "packages.svg": packages_svg,
}


def stale(folder: Path = FOLDER) -> dict[str, str]:
    """Return file name → right content, for files that are missing or have another content."""
    wanted = {name: make() for name, make in PAGES.items()}
    return {
        name: text
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    }


def renew(folder: Path = FOLDER) -> list[str]:
    """Write the files that are stale; returns their names."""
    found = stale(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(found)
