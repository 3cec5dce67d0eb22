"""A notebook's run as a page without scripts: read from marimo's export, written as plain HTML."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.notebooks.kept_page import Cell, cells_of, first_failure, page_of, without_scripts

TRACE = (
    '<pre><span class="gt">Traceback (most recent call last):</span>\n'
    '  File <span class="nb">"/tmp/x.py"</span>, line 1, in &lt;module&gt;\n    ask()\n'
    '  File "/y.py", line 2, in ask\n    raise\napp.errors.HeadwaterError: no &quot;a&quot;\n  detail: why\n</pre>'
)


def cell(*outputs: dict[str, Any], name: str = "a", console: Any = ()) -> Cell:
    return Cell(name, "ask()", list(console), list(outputs))


def data(kind: str, value: Any) -> dict[str, Any]:
    return {"type": "data", "data": {kind: value}}


def failed(name: str = "a") -> Cell:
    trace = {"mimetype": "application/vnd.marimo+traceback", "text": TRACE}
    return cell({"type": "error", "ename": "exception", "evalue": "no"}, name=name, console=[trace])


def test_code_and_outputs_are_read_from_what_marimo_exported() -> None:
    notebook = {"cells": [{"id": "A", "name": "_", "code": "1"}, {"id": "B", "name": "b", "code": "2"}]}  # fmt: skip
    session = {"cells": [{"id": "B", "console": [], "outputs": [data("text/plain", "2")]}]}
    text = f'x = {{"notebook": {json.dumps(notebook)}, "session": {json.dumps(session)}}};'
    first, second = cells_of(text)
    assert (first.name, first.code, first.outputs) == ("1", "1", [])
    assert (second.name, second.outputs) == ("b", [data("text/plain", "2")])


def test_an_export_of_another_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no `notebook`"):
        cells_of("<html></html>")


def test_the_reason_is_the_exception_of_the_first_cell_that_failed_by_itself() -> None:
    after = cell({"type": "error", "ename": "ancestor-stopped", "evalue": "stopped"}, name="c")
    assert first_failure([cell(), after]) == ""
    why = 'cell `b`: app.errors.HeadwaterError: no "a"; detail: why'
    assert first_failure([after, failed("b"), failed("d")]) == why
    twice = cell({"type": "error", "ename": "multiple-defs", "evalue": "`x` is twice"})
    assert first_failure([twice]) == "cell `a`: `x` is twice"


def test_a_page_has_what_was_printed_shown_and_raised_and_loads_nothing() -> None:
    cells = [
        cell(data("text/html", "<b>bold</b><script>alert(1)</script>")),
        cell(data("image/png", "data:image/png;base64,AA")),
        cell(data("application/vnd.marimo+mimebundle", json.dumps({"text/plain": "no", "image/png": "data:image/png;base64,BB"}))),
        cell(data("text/plain", "<plain>"), console=[{"name": "stdout", "text": "printed\n"}]),
        failed(),
    ]  # fmt: skip
    page = page_of("a <title>", {"run": "now"}, cells)
    for part in (
        "a &lt;title&gt;", "<b>bold</b>", "base64,AA", "base64,BB", "&lt;plain&gt;", "printed",
        "HeadwaterError: no &quot;a&quot;", "ask()",
    ):  # fmt: skip
        assert part in page
    for part in ("<script", "alert", "http://", "https://", ">no<"):
        assert part not in page


def test_elements_that_only_a_script_draws_become_plain_or_are_named() -> None:
    table = "<marimo-table data-data='&quot;[{&#92;&quot;a&#92;&quot;: 1}]&quot;'></marimo-table>"
    assert without_scripts(table) == "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
    stat = "<marimo-stat data-value='3' data-label='&quot;rows&quot;'></marimo-stat>"
    assert without_scripts(f"<i>{stat}</i>") == "<i><p>rows 3</p></i>"
    callout = "<marimo-callout-output data-html='&quot;<b>x</b>&quot;'></marimo-callout-output>"
    assert without_scripts(callout) == '<div class="callout"><b>x</b></div>'
    slider = "<marimo-ui-element><marimo-slider data-label='&quot;Day&quot;' data-initial-value='2'></marimo-slider></marimo-ui-element>"
    assert "slider Day: 2; it works in the notebook only" in without_scripts(slider)


def test_an_output_that_is_too_large_is_left_out() -> None:
    page = page_of("a", {}, [cell(data("text/html", "x" * 5_000_000))])
    assert "5 MB of text/html are left out" in page
    assert len(page) < 10_000
