"""The runbook: a section an alert, and as an HTML page that Prometheus serves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

from app.metrics.metric_list import ALERTS, place_of

SOURCE = Path(__file__).resolve().parents[3] / "grafana" / "runbook.md"
# The file below Prometheus' folder, and the path of its URL.
FILE = "consoles/runbook.html"
PATH = f"/{FILE}"
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Headwater: runbook</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
code { background: #8882; padding: 0 .2em; overflow-wrap: anywhere }
h2 { margin-top: 2.5rem }
h2:target { background: #fc08 }
:root { color-scheme: light dark }
</style></head><body>
"""


_SECTION = """## {name}
{symptom}. Normally: {normal}.
**Look at** *{panel}* on dashboard {dashboard}.
**Do** what the cause asks: `./headwater status` names the part, `./headwater logs SERVICE` its error.
"""


def with_all_sections(markdown: str) -> str:
    """Add a section for each alert that has none, after that of the alert declared before it."""
    head, *sections = markdown.split("\n## ")
    names = [section.split("\n", 1)[0] for section in sections]
    after = 0
    for alert in ALERTS:
        if alert.name not in names:
            dashboard, panel = place_of(alert)
            text = _SECTION.format(
                name=alert.name,
                symptom=alert.symptom_in_markdown,
                normal=alert.normal,
                panel=dashboard.panels[panel - 1].title,
                dashboard=dashboard.name,
            )
            names.insert(after, alert.name)
            sections.insert(after, text.removeprefix("## "))
        after = names.index(alert.name) + 1
    return "\n## ".join((head, *sections))


def html(markdown: str | None = None) -> str:
    """Convert the runbook to HTML; a heading's id is its text in small letters, as in `Alert.section`.

    Prometheus processes the file as a Go template.
    Raises: ValueError if the text has a template's `{{`.
    """
    text = SOURCE.read_text() if markdown is None else markdown
    if "{{" in text:
        raise ValueError("the runbook has `{{`, which Prometheus would carry out")
    # Each line of a section is a statement of its own: line ends are kept.
    parser = MarkdownIt("commonmark", {"breaks": True})
    tokens = parser.parse(text)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", inline.content.lower().replace(" ", "-"))
    return _HEAD + parser.renderer.render(tokens, parser.options, {}) + "</body></html>\n"
