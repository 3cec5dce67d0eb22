"""A notebook's run as one HTML file that needs no server, no script and no network.

marimo's own export is a page that loads marimo's scripts from other servers. It has the cells' outputs as JSON
(`notebook` and `session`), which this module writes as plain HTML. Of controls (sliders, choices) it writes only the names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any

OUTPUT_CHARS_MAX = 4_000_000  # of one cell
ROWS_MAX = 1_000  # of a table
_TAGS = re.compile(r"<[^>]*>")
_UPSTREAM = ("ancestor-stopped", "ancestor-prevented", "interruption", "cell-not-run")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; font-size: 14px } th, td { padding: .2rem .6rem; border: 1px solid #d0d7de; text-align: left }
pre { background: #f6f8fa; padding: .6rem; overflow-x: auto; font-size: 13px } img, svg { max-width: 100% }
details { color: #57606a } .output { overflow-x: auto; margin: 0 0 1rem } .paragraph { display: block; margin: .6rem 0 }
.error { border-left: 4px solid #cf222e; background: #ffebe9 } .aside { color: #57606a; font-size: 14px }
.callout { border-left: 4px solid #bf8700; padding: .2rem .8rem; background: #fff8c5 }
"""


@dataclass(frozen=True)
class Cell:
    """A cell that has run: its code, its printed text and its output."""

    name: str
    code: str
    console: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    @property
    def failure(self) -> str:
        """Why it failed: the exception's line, or marimo's own message; "" if it did not fail by itself."""
        for output in self.outputs:
            if output.get("type") == "error" and output.get("ename") not in _UPSTREAM:
                traces = (one for one in self.console if "traceback" in str(one.get("mimetype")))
                raised = next((_raised(_plain(str(one["text"]))) for one in traces), "")
                return raised or str(output.get("evalue") or output.get("ename"))
        return ""


def cells_of(export: str) -> list[Cell]:
    """Return the cells of a page that marimo exported. Raises: ValueError if it has another form."""
    notebook, session = (_json_behind(export, name) for name in ("notebook", "session"))
    ran = {cell["id"]: cell for cell in session["cells"]}
    found = []
    for number, cell in enumerate(notebook["cells"], start=1):
        name = cell["name"] if cell["name"] not in ("", "_", "__") else str(number)
        of_run = ran.get(cell["id"], {})
        found.append(Cell(name, cell["code"], of_run.get("console", []), of_run.get("outputs", [])))
    return found


def _json_behind(text: str, name: str) -> Any:
    key = f'"{name}": {{'
    start = text.find(key)
    if start < 0:
        raise ValueError(f"marimo's page has no `{name}`")
    return json.JSONDecoder().raw_decode(text, start + len(key) - 1)[0]


def first_failure(cells: list[Cell]) -> str:
    """Return which cell failed first and why; "" if none failed."""
    failed = next((cell for cell in cells if cell.failure), None)
    return f"cell `{failed.name}`: {failed.failure}" if failed else ""


def page_of(title: str, about: Mapping[str, str], cells: list[Cell]) -> str:
    """Return the page: a heading, the facts of `about`, and each cell."""
    facts = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in about.items())
    body = "".join(part for cell in cells for part in _cell_parts(cell))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<table>{facts}</table>{body}</body></html>\n"
    )


def _cell_parts(cell: Cell) -> Iterator[str]:
    yield f"<details><summary>cell {escape(cell.name)}</summary><pre>{escape(cell.code)}</pre></details>"
    printed = "".join(_plain(str(one["text"])) if _is_html(one) else str(one.get("text", "")) for one in cell.console)  # fmt: skip
    if printed.strip():
        yield f"<pre>{escape(printed[:OUTPUT_CHARS_MAX])}</pre>"
    for output in cell.outputs:
        if output.get("type") == "error":
            why = cell.failure or str(output.get("evalue") or output.get("ename"))
            yield f'<pre class="error">{escape(why)}</pre>' if cell.failure else _aside(why)
        elif shown := _shown(output.get("data", {})):
            yield f'<div class="output">{shown}</div>'


def _is_html(one: Mapping[str, Any]) -> bool:
    return "traceback" in str(one.get("mimetype"))


def _shown(data: Mapping[str, Any]) -> str:
    """Return the richest form of an output that needs no script."""
    if bundle := data.get("application/vnd.marimo+mimebundle"):
        data = json.loads(bundle) if isinstance(bundle, str) else bundle
    for kind, value in sorted(data.items(), key=lambda item: _RANK.get(item[0], len(_RANK))):
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) > OUTPUT_CHARS_MAX:
            return _aside(f"{len(text) / 1e6:.0f} MB of {kind} are left out")
        if kind.startswith("image/") and text.startswith("data:"):
            return f'<img alt="" src="{escape(text)}">'
        if kind == "image/svg+xml":
            return text
        if kind in ("text/html", "text/markdown"):
            return without_scripts(text)
        if text.strip():
            return f"<pre>{escape(text)}</pre>"
    return ""


_RANK = {
    kind: number
    for number, kind in enumerate(
        ("image/svg+xml", "image/png", "image/jpeg", "text/html", "text/markdown", "text/plain")
    )
}


def _aside(text: str) -> str:
    return f'<span class="aside">({escape(text)})</span>'


def without_scripts(html: str) -> str:
    """Return HTML in which plain elements or names replace marimo's own, which only its scripts can draw."""
    writer = _PlainWriter()
    writer.feed(html)
    writer.close()
    return "".join(writer.parts)


class _PlainWriter(HTMLParser):
    """Copies HTML, and replaces each of marimo's elements by its content."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe"):
            self._in_script = tag == "script"
        elif tag.startswith("marimo-"):
            self.parts.append(_plain_element(tag, {k: _value(v or "") for k, v in attrs}))
        else:
            self.parts.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._in_script = False
        elif tag not in ("link", "iframe") and not tag.startswith("marimo-"):
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._in_script:
            self.parts.append(data.replace("||(", "").replace("||)", ""))  # around a formula

    def handle_entityref(self, name: str) -> None:
        self.parts.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.parts.append(f"&#{name};")


def _value(text: str) -> Any:
    """Return the value of an attribute, decoded if it is JSON, and decoded again if that contains JSON."""
    found: Any = unescape(text)
    for _ in range(2):
        try:
            found = json.loads(found)
        except (ValueError, TypeError):
            break
    return found


def _plain_element(tag: str, given: Mapping[str, Any]) -> str:
    if tag in ("marimo-ui-element", "marimo-tex", "marimo-lazy"):
        return ""  # its content follows
    if tag == "marimo-table" and isinstance(given.get("data-data"), list):
        return _table(given["data-data"])
    if tag == "marimo-callout-output":
        return f'<div class="callout">{without_scripts(str(given.get("data-html", "")))}</div>'
    if tag == "marimo-stat":
        words = (given.get(f"data-{key}") for key in ("label", "value", "caption"))
        return f"<p>{escape(' '.join(str(word) for word in words if word is not None))}</p>"
    label = _plain(str(given.get("data-label") or ""))
    chosen = given.get("data-initial-value")
    shown = f" {label}: {chosen}" if label else ""
    return _aside(f"{tag.removeprefix('marimo-')}{shown}; it works in the notebook only")


def _table(rows: list[Any]) -> str:
    rows = [row for row in rows if isinstance(row, dict)]
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if name != "_marimo_row_id"]  # fmt: skip
    head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(row.get(name)))}</td>" for name in names) + "</tr>"
        for row in rows[:ROWS_MAX]
    )
    more = _aside(f"{len(rows) - ROWS_MAX} more rows") if len(rows) > ROWS_MAX else ""
    return f"<table><tr>{head}</tr>{body}</table>{more}"


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _plain(html: str) -> str:
    return unescape(_TAGS.sub("", html))


def _raised(trace: str) -> str:
    """Return the exception of a trace, the lines after the last frame, as one line."""
    lines = trace.strip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    behind = lines[frames[-1] + 1 :] if frames else lines
    start = next((n for n, line in enumerate(behind) if line and not line.startswith(" ")), 0)
    return "; ".join(line.strip() for line in behind[start:] if line.strip())
