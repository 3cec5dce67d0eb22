"""A picture of horizontal bars as SVG, for the pages that are made from figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

LABEL, WIDTH, VALUE = 190, 420, 90
BAR, GAP, HEAD = 14, 10, 44
COLOURS = ("#2f7d80", "#d08a3c", "#7a5ea8", "#9aa5b1")
Row = tuple[str, Mapping[str, float]]


def bars_svg(title: str, rows: Sequence[Row], unit: str) -> str:
    """One group of bars a row, one bar a series; all from zero, on one scale, with its value beside it."""
    series = list(dict.fromkeys(name for _, values in rows for name in values))
    most = max((value for _, values in rows for value in values.values()), default=0) or 1
    parts, y = [], HEAD
    for label, values in rows:
        parts.append(_text(LABEL - 8, y + BAR * len(values) / 2 + 4, label, "end"))
        for name, value in values.items():
            length = max(1.0, WIDTH * value / most)
            colour = COLOURS[series.index(name) % len(COLOURS)]
            parts.append(
                f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{colour}"/>'
            )
            parts.append(_text(LABEL + length + 5, y + BAR - 4, f"{number(value)} {unit}", "start"))
            y += BAR
        y += GAP
    for place, name in enumerate(series):
        x = LABEL + place * 110
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<rect x="{x}" y="26" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 15, 35, name, "start"))
    total = LABEL + WIDTH + VALUE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {y}" '
            'font-family="sans-serif" font-size="12" fill="#1c2733">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{total}" height="{y}" fill="#ffffff"/>',
            f'<text x="{GAP}" y="16" font-weight="bold">{escape(title)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
