"""The documentation site is built in strict mode, is complete, and loads nothing from other servers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from app.docs.build import build
from app.docs.site import brought_in, site_path
from app.errors import HeadwaterError

ROOT = Path(__file__).resolve().parents[2]
# Addresses that a browser loads by itself, not links.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*?\bsrc=["']?(https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*?\bhref=["']?https?://[^"'\s>]+"""
    r"""|url\(["']?https?://[^)]+|@import\s+["']?https?://[^"';]+"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    build(out)
    return out


def test_every_document_is_a_page_of_the_site(site: Path) -> None:
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    pages = [*written, *(site_path(path) for path in brought_in() if path.endswith(".md"))]
    missing = [
        page
        for page in pages
        if not (site / page.replace("README.md", "index.md")).with_suffix(".html").is_file()
    ]
    assert missing == []


def test_the_front_page_shows_its_pictures(site: Path) -> None:
    text = (site / "index.html").read_text()
    pictures = re.findall(r'<img[^>]*src="([^"]+)"', text)
    assert len(pictures) >= 2
    assert [name for name in pictures if not (site / name).is_file()] == []


def test_a_browser_fetches_nothing_from_elsewhere(site: Path) -> None:
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    found = {
        f"{path.relative_to(site)}: {match[0]}"
        for path in files
        for match in FETCHED.finditer(path.read_text(encoding="utf-8"))
    }
    assert len(files) > 30
    assert sorted(found) == []


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path: Path) -> None:
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (docs / "limits.md").open("a") as page:
        page.write("\n[x](gone.md) [y](security.md#gone) [z](../app/gone.md)\n")
    config = tmp_path / "mkdocs.yml"
    hook = ROOT / "app" / "docs" / "site.py"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {docs}\nhooks: [{hook}]\n")
    with pytest.raises(HeadwaterError) as caught:
        build(tmp_path / "site", config)
    for target in ("'gone.md'", "#gone", "'../app/gone.md'"):
        assert target in caught.value.detail
    assert caught.value.detail.count("WARNING") == 3
