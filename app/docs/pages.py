"""The pages of `docs` that are written from the code, and from benchmarks' reports: lists, compares and renews them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from app.docs.benchmarks.benchmarks_page import PICTURES, benchmark_pictures, benchmarks_page
from app.docs.commands_page import commands_page
from app.docs.metrics_page import metrics_page
from app.docs.package_picture import packages_svg
from app.docs.services_page import services_page
from app.docs.settings_page import settings_page
from app.docs.tables_page import tables_page

FOLDER = Path(__file__).resolve().parents[2] / "docs"
PAGES: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/settings.md": settings_page,
    "reference/services.md": services_page,
    "reference/tables.md": tables_page,
    "reference/metrics.md": metrics_page,
    "reference/packages.svg": packages_svg,
    "benchmarks.md": benchmarks_page,
}


def stale(folder: Path = FOLDER) -> dict[str, str]:
    """Return file name → right content, for files that are missing or have another content."""
    wanted = {name: make() for name, make in PAGES.items()}
    wanted |= {f"{PICTURES}/{name}": text for name, text in benchmark_pictures().items()}
    return {
        name: text
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    }


def renew(folder: Path = FOLDER) -> list[str]:
    """Write the files that are stale; returns their names."""
    found = stale(folder)
    for name, text in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return list(found)
