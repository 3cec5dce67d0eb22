"""Links and code of Markdown files: targets, and broken links."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

_HTML = re.compile(r"""<(?:img|a|source)\b[^>]*?\b(?:src|href)=["']([^"']+)["']""")
_PARSER = MarkdownIt("commonmark").enable("table")


def broken_links(root: Path, paths: Iterable[Path]) -> list[str]:
    """The broken links of these files: `FILE: TARGET: why`.

    Links to other sites are not checked.
    """
    found = []
    for path in paths:
        for target in links(path):
            why = trouble(root, path, target)
            if why:
                found.append(f"{path.relative_to(root)}: {target}: {why}")
    return found


def links(path: Path) -> Iterator[str]:
    """The targets of a file's links and pictures, including those in HTML."""
    for token in _inline(path):
        if token.type == "link_open":
            yield str(token.attrs["href"])
        elif token.type == "image":
            yield str(token.attrs["src"])
        elif token.type in ("html_inline", "html_block"):
            yield from _HTML.findall(token.content)


def code(path: Path) -> Iterator[str]:
    """The texts in backticks in a file."""
    return (token.content for token in _inline(path) if token.type == "code_inline")


def trouble(root: Path, path: Path, target: str) -> str:
    """Why a link is broken; "" if it is not, or leads to another site."""
    name, _, anchor = target.partition("#")
    if re.match(r"[a-z][a-z0-9+.-]*:", name):
        return ""
    if name.startswith("/"):
        return "it begins at a root, which no two sites share"
    beside = Path(posixpath.normpath(path.parent / unquote(name))) if name else path
    if not beside.is_relative_to(root) or not beside.exists():
        return "no such file"
    if anchor and (beside.suffix != ".md" or anchor not in anchors(beside)):
        return "no such heading"
    return ""


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors of a file's headings, as code forges and the site make them."""
    found: list[str] = []
    tokens = _PARSER.parse(path.read_text(encoding="utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or [])
            plain = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            seen = sum(
                re.fullmatch(rf"{re.escape(plain)}(-\d+)?", each) is not None for each in found
            )
            found.append(f"{plain}-{seen}" if seen else plain)
    return frozenset(found)


def _inline(path: Path) -> Iterator[Token]:
    for token in _PARSER.parse(path.read_text(encoding="utf-8")):
        yield token
        yield from token.children or []
