"""Writes edits made in the browser back into `superset/assets/`, readable and diffable.

Superset's exports differ from run to run although nobody edited anything: numbers of its own
database, the order of columns, values that its page computes. `tidy` removes these, so that an export directly after
an import changes no file (a test checks that).
"""

from __future__ import annotations

import copy
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from app.dashboards.assets import Asset, chart_places, filters, read_assets
from app.dashboards.superset_client import Superset
from app.errors import HeadwaterError

Content = dict[str, Any]

# Of a chart: numbers of datasets and dashboards in this Superset, and its last query
# (`query_context`, which is made from the parameters whenever the chart is shown).
_PARAMS_LEFT_OUT = (
    "datasource", "slice_id", "dashboards", "dashboardId", "force", "result_format", "result_type",
)  # fmt: skip
# Of a dashboard: what its page computes from layout and filters when it opens.
_METADATA_LEFT_OUT = (
    "chart_configuration", "global_chart_configuration", "default_filters", "filter_scopes",
    "shared_label_colors", "map_label_colors", "color_scheme_domain", "import_time",
)  # fmt: skip
_FILTER_LEFT_OUT = ("chartsInScope", "tabsInScope")


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as YAML blocks."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(content: Content) -> str:
    """Return the text of an asset's file."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def export_assets(superset: Superset, folder: Path, more: Sequence[str] = ()) -> list[str]:
    """Write the dashboards of the folder, and `more` (slugs), with all that they use.

    The database's file is not changed: the exported address is that of this stack. Files of assets
    that are not used any more stay: remove them yourself.
    Returns: the files that changed, below the folder, sorted.
    Raises: HeadwaterError for a slug that Superset does not have.
    """
    known = read_assets(folder)
    slugs = {a.content["slug"] for a in known.values() if a.kind == "dashboards"} | set(more)
    there = {board["slug"]: board["id"] for board in superset.dashboards()}
    missing = sorted(slugs - set(there))
    if missing:
        raise HeadwaterError(
            f"Superset has no dashboard with the slug `{missing[0]}`",
            detail=f"it has {', '.join(sorted(filter(None, there))) or 'none'}",
            hint="a dashboard gets its slug in Edit dashboard, Edit properties",
        )
    content = superset.export_dashboards(sorted(there[slug] for slug in slugs))
    changed = []
    for path, text in exported_files(content, known).items():
        target = folder / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            changed.append(path)
    return sorted(changed)


def exported_files(content: bytes, known: Mapping[str, Asset]) -> dict[str, str]:
    """Return path below the assets' folder → text, for each asset in an exported zip file.

    An asset that the folder has keeps its path; a new one gets the path that its name asks for.
    """
    found: dict[str, str] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in sorted(archive.namelist()):
            kind = name.split("/")[1]
            if kind not in ("datasets", "charts", "dashboards"):
                continue
            exported = yaml.safe_load(archive.read(name))
            before = known.get(str(exported["uuid"]))
            tidied = tidy(kind, exported, before.content if before else {})
            found[before.path if before else path_of(kind, tidied)] = dump(tidied)
    return found


def path_of(kind: str, content: Mapping[str, Any]) -> str:
    """Return the path of a new asset."""
    if kind == "datasets":
        return f"datasets/{slugified(content['schema'])}/{slugified(content['table_name'])}.yaml"
    if kind == "charts":
        return f"charts/{slugified(content['slice_name'])}.yaml"
    return f"dashboards/{content['slug']}.yaml"


def slugified(name: str) -> str:
    """Make a file name: lower case, `-` for other characters; `_` stays, as in tables' names."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")


def tidy(kind: str, exported: Content, before: Mapping[str, Any]) -> Content:
    """Remove the parts that change between exports; `before` is the folder's asset, for the order."""
    content = copy.deepcopy(exported)
    if kind == "charts":
        _tidy_chart(content)
    elif kind == "datasets":
        _tidy_dataset(content, before)
    else:
        _tidy_dashboard(content)
    return without_none(content)


def without_none(content: Content) -> Content:
    return {key: value for key, value in content.items() if value is not None}


def _tidy_chart(content: Content) -> None:
    content.pop("query_context", None)
    params = content["params"]
    for key in _PARAMS_LEFT_OUT:
        params.pop(key, None)
    if not params.get("annotation_layers"):
        params.pop("annotation_layers", None)


def _tidy_dataset(content: Content, before: Mapping[str, Any]) -> None:
    for part, name in (("columns", "column_name"), ("metrics", "metric_name")):
        order = [each[name] for each in before.get(part, [])]
        new = len(order)
        content[part] = [
            without_none(each)
            for each in sorted(
                content[part],
                key=lambda each: (
                    order.index(each[name]) if each[name] in order else new,
                    each[name],
                ),
            )
        ]


def _tidy_dashboard(content: Content) -> None:
    numbers: dict[int, int] = {}
    for place in chart_places(content):
        numbers[place["chartId"]] = len(numbers) + 1
        place["chartId"] = len(numbers)
    metadata = content["metadata"]
    for key in _METADATA_LEFT_OUT:
        metadata.pop(key, None)
    for each in filters(content):
        for key in _FILTER_LEFT_OUT:
            each.pop(key, None)
        scope = each.get("scope", {})
        scope["excluded"] = sorted(numbers[n] for n in scope.get("excluded", []) if n in numbers)
    immune = metadata.get("timed_refresh_immune_slices") or []
    metadata["timed_refresh_immune_slices"] = sorted(numbers[n] for n in immune if n in numbers)
