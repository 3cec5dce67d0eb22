"""The picture of the packages, drawn from the code's imports: `docs/reference/packages.svg`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOPS = {"app": "#dde6f2", "spark_streaming": "#dcebdd"}
BOX_WIDTH, BOX_HEIGHT, GAP, ROW = 112, 26, 10, 64
Edges = Mapping[str, set[str]]


def package_imports() -> dict[str, set[str]]:
    """Package → the packages that it imports; a package is a folder below `app` or `spark_streaming`."""
    found: dict[str, set[str]] = {}
    for top in TOPS:
        for path in sorted((ROOT / top).glob("*/**/*.py")):
            if not (path.parent / "__init__.py").exists():
                continue  # in no package: a notebook, a program for another environment
            package = ".".join(path.relative_to(ROOT).parts[:2])
            found.setdefault(package, set()).update(_imported(path))
    return {
        package: {each for each in imported if each != package and each in found}
        for package, imported in found.items()
    }


def _imported(path: Path) -> Iterator[str]:
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield ".".join(node.module.split(".")[:2])
        elif isinstance(node, ast.Import):
            yield from (".".join(alias.name.split(".")[:2]) for alias in node.names)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _nodes(child)


def levels(edges: Edges) -> list[list[str]]:
    """The packages from the top down: each imports only packages of later lists."""
    height: dict[str, int] = {}

    def height_of(package: str) -> int:
        if package not in height:
            height[package] = 1 + max((height_of(each) for each in edges[package]), default=-1)
        return height[package]

    for package in edges:
        height_of(package)
    rows = [sorted(p for p in edges if height[p] == n) for n in range(max(height.values()) + 1)]
    return rows[::-1]


def without_detours(edges: Edges) -> dict[str, set[str]]:
    """The imports without those that another import implies, so that the picture can be read."""
    reached: dict[str, set[str]] = {}

    def reach(package: str) -> set[str]:
        if package not in reached:
            below = edges[package]
            reached[package] = below.union(*(reach(each) for each in below))
        return reached[package]

    return {
        package: {each for each in below if not any(each in reach(o) for o in below - {each})}
        for package, below in edges.items()
    }


def _places(rows: list[list[str]]) -> tuple[dict[str, tuple[float, float]], float]:
    """Return each box's upper left corner, with a column for each top folder; and the total width."""
    places: dict[str, tuple[float, float]] = {}
    left = float(GAP)
    for top in TOPS:
        own = [[p for p in row if p.startswith(f"{top}.")] for row in rows]
        width = max(map(len, own)) * (BOX_WIDTH + GAP)
        for number, row in enumerate(own):
            indent = left + (width - len(row) * (BOX_WIDTH + GAP)) / 2
            for column, package in enumerate(row):
                places[package] = (indent + column * (BOX_WIDTH + GAP), GAP + number * ROW)
        left += width + 6 * GAP
    return places, left - 6 * GAP


def packages_svg() -> str:
    """The picture: a box for each package, and lines down to the packages that it imports."""
    edges = package_imports()
    rows = levels(edges)
    places, width = _places(rows)
    lines = []
    for package, below in sorted(without_detours(edges).items()):
        x, y = places[package]
        for each in sorted(below):
            to_x, to_y = places[each]
            lines.append(
                f'<line x1="{x + BOX_WIDTH / 2:g}" y1="{y + BOX_HEIGHT:g}" '
                f'x2="{to_x + BOX_WIDTH / 2:g}" y2="{to_y:g}"/>'
            )
    boxes = []
    for package, (x, y) in places.items():
        top, _, name = package.partition(".")
        boxes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="4" '
            f'fill="{TOPS[top]}"/><text x="{x + BOX_WIDTH / 2:g}" y="{y + 17:g}">{name}</text>'
        )
    height = len(rows) * ROW - ROW + BOX_HEIGHT + 2 * GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            'font-family="sans-serif" font-size="12" text-anchor="middle">',
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            f'<g stroke="#9aa5b1" stroke-width="1">{"".join(lines)}</g>',
            '<g stroke="none" fill="#1c2733">',
            *boxes,
            "</g>",
            "</svg>\n",
        ]
    )
