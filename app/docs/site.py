"""MkDocs' hook: the folders' READMEs become pages of the site, below `folders/`, with their pictures.

The repository's own README is the front page; a page of `docs/` stays where it is. Links are
written for the repository, as a forge shows it; here they are turned to the site's pages, and links to files outside
of the site become plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs/"
BELOW = "folders/"
FRONT = {"README.md": "index.md"}
PAGES = (
    "README.md",
    "*/README.md",
    "app/*/README.md",
    "app/*/*/README.md",
    "spark_streaming/*/README.md",
    "spark_streaming/*/*/README.md",
    "tests/bench/README.md",
    "tests/bench/results/README.md",
    "grafana/runbook.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
)
# Pages whose line ends are kept: each line is a statement of its own.
LINES_STAY = ("grafana/runbook.md",)
PICTURES = ("app/page/pictures/*", "superset/screenshots/*")
# [text](target) and ![text](target), outside of code; a text may hold code, and a picture.
_LINK = re.compile(
    r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*)\]\((?P<to>[^()\s]+)\)"
)
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def site_path(path: str) -> str:
    """Return the path in the site's sources of a file of the repository."""
    if path in FRONT:
        return FRONT[path]
    return path.removeprefix(DOCS) if path.startswith(DOCS) else BELOW + path


def repository_path(path: str) -> str:
    """Return the file of the repository from which a page of the site comes."""
    for front, page in FRONT.items():
        if path == page:
            return front
    return path.removeprefix(BELOW) if path.startswith(BELOW) else DOCS + path


def brought_in(root: Path = ROOT) -> list[str]:
    """List the files from outside `docs/` that are in the site."""
    found = [path for pattern in (*PAGES, *PICTURES) for path in root.glob(pattern)]
    names = (path.relative_to(root).as_posix() for path in found)
    return sorted(name for name in names if not name.startswith("."))


def with_links_of_the_site(markdown: str, page: str, there: set[str]) -> str:
    """Return a file's Markdown with its links turned to the site's pages.

    Args:
        page: the file's path in the repository.
        there: the repository's files that the site has.
    """

    def turned(match: re.Match[str]) -> str:
        to, mark, anchor = match["to"].partition("#")
        if not to or ":" in to:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), to))
        target = f"{target}/README.md" if f"{target}/README.md" in there else target
        if target not in there:
            if not (ROOT / target).exists():
                return match[0]  # MkDocs names it
            return with_links_of_the_site(match["text"], page, there)
        folder = posixpath.dirname(site_path(page)) or "."
        text = (
            match["text"]
            if match["picture"]
            else with_links_of_the_site(match["text"], page, there)
        )
        way = posixpath.relpath(site_path(target), folder)
        return f"{match['picture']}[{text}]({way}{mark}{anchor})"

    parts: list[str] = []
    end = 0
    # A link may hold code, so code is passed over only where no link begins before it.
    protected = [found.span() for found in _CODE.finditer(markdown)]
    for match in _LINK.finditer(markdown):
        if any(begin < match.start() < stop for begin, stop in protected):
            continue
        parts += [markdown[end : match.start()], turned(match)]
        end = match.end()
    return "".join([*parts, markdown[end:]])


def on_files(files: Any, config: Any) -> Any:
    """Add the files from outside `docs/` (called by MkDocs)."""
    from mkdocs.structure.files import File

    for path in brought_in():
        files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn a page's links (called by MkDocs)."""
    there = {repository_path(file.src_uri) for file in files}
    path = repository_path(page.file.src_uri)
    if path in LINES_STAY:
        markdown = re.sub(r"(?<=\S)\n(?=\*\*)", "  \n", markdown)
    return with_links_of_the_site(markdown, path, there)
