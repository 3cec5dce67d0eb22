"""The files of `superset/assets/`: reads and checks them, selects those that belong together, packs them.

databases/<slug>.yaml, datasets/<schema>/<table>.yaml, charts/<slug>.yaml, dashboards/<slug>.yaml,
each as Superset itself exports it. They refer to each other by uuid.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.errors import HeadwaterError

KINDS = ("databases", "datasets", "charts", "dashboards")
# Schemas that every stack has; the others are the demo store's.
SCHEMAS_EVERYWHERE = ("ops",)
TRINO_PLACE = (
    "{trino}"  # placeholder in the database's address for host and port of this stack's Trino
)
# A zip entry has a time; a fixed one gives the same bytes for the same assets.
_ZIP_TIME = (2020, 1, 1, 0, 0, 0)
_METADATA = {"version": "1.0.0", "type": "assets"}
# Trino's client uses HTTP by default.
_HTTPS = {"engine_params": {"connect_args": {"http_scheme": "https"}}}


@dataclass(frozen=True)
class Asset:
    """One file: `path` below the assets' folder, its kind (of KINDS), its content."""

    path: str
    kind: str
    content: dict[str, Any]

    @property
    def uuid(self) -> str:
        return str(self.content["uuid"])

    def needs(self) -> set[str]:
        """The uuids of the assets that it refers to."""
        if self.kind == "charts":
            return {self.content["dataset_uuid"]}
        if self.kind == "datasets":
            return {self.content["database_uuid"]}
        if self.kind == "dashboards":
            return {*chart_uuids(self.content), *filter_dataset_uuids(self.content)}
        return set()


def chart_places(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the layout's entry of each chart of a dashboard: uuid, chartId, size."""
    for part in dashboard["position"].values():
        if isinstance(part, dict) and part.get("type") == "CHART":
            yield part["meta"]


def chart_uuids(dashboard: Mapping[str, Any]) -> list[str]:
    """List the charts of a dashboard, in the order of its layout."""
    return [str(place["uuid"]) for place in chart_places(dashboard)]


def filters(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the dashboard's own filters."""
    return list(dashboard.get("metadata", {}).get("native_filter_configuration") or [])


def filter_dataset_uuids(dashboard: Mapping[str, Any]) -> set[str]:
    """Return the datasets that a dashboard's filters take their values from."""
    targets = [target for each in filters(dashboard) for target in each.get("targets", [])]
    return {target["datasetUuid"] for target in targets if "datasetUuid" in target}


def read_assets(folder: Path) -> dict[str, Asset]:
    """Read every asset of the folder, by uuid.

    Raises: HeadwaterError for a file that is not an asset, a uuid used twice, or a reference to a missing asset;
        each names the file.
    """
    found: dict[str, Asset] = {}
    for path in sorted(folder.rglob("*.yaml")):
        asset = _read(folder, path)
        if asset.uuid in found:
            raise HeadwaterError(
                f"{path} has the uuid of {found[asset.uuid].path}",
                hint="give the copy a uuid of its own: python3 -c 'import uuid; print(uuid.uuid4())'",
            )
        found[asset.uuid] = asset
    for asset in found.values():
        missing = sorted(asset.needs() - set(found))
        if missing:
            raise HeadwaterError(
                f"{asset.path} refers to {missing[0]}, which no file of {folder} has"
            )
    return found


def _read(folder: Path, path: Path) -> Asset:
    name = path.relative_to(folder).as_posix()
    kind = name.split("/")[0]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise HeadwaterError(f"{path} is not YAML", detail=str(error)) from error
    if kind not in KINDS or not isinstance(content, dict) or "uuid" not in content:
        raise HeadwaterError(
            f"{path} is not an asset",
            hint=f"assets have a uuid and stand in {', '.join(KINDS)}",
        )
    return Asset(name, kind, content)


def closure(assets: Mapping[str, Asset], uuids: Iterable[str]) -> list[Asset]:
    """The assets of these uuids and all that they refer to, sorted by path."""
    wanted: set[str] = set()
    queue = list(uuids)
    while queue:
        uuid = queue.pop()
        if uuid not in wanted:
            wanted.add(uuid)
            queue.extend(assets[uuid].needs())
    return sorted((assets[uuid] for uuid in wanted), key=lambda asset: asset.path)


def for_source(assets: Mapping[str, Asset], *, demo_store: bool) -> list[Asset]:
    """Select the assets to import: all for the demo store; otherwise those that read no store tables.

    For another source these are the dashboards whose datasets are all in SCHEMAS_EVERYWHERE, with their dependencies.
    """
    if demo_store:
        return closure(assets, assets)
    dashboards = [asset for asset in assets.values() if asset.kind == "dashboards"]
    return closure(
        assets,
        [
            board.uuid
            for board in dashboards
            if all(
                each.content["schema"] in SCHEMAS_EVERYWHERE
                for each in closure(assets, [board.uuid])
                if each.kind == "datasets"
            )
        ],
    )


def archive(
    assets: Iterable[Asset], *, trino: str, scheme: str = "http", as_people: bool = False
) -> bytes:
    """Make the zip file that Superset imports; the same assets give the same bytes.

    Args:
        trino: host and port of Trino, for the database's address; with `user:password@` before them if Superset
            does not connect as `superset`. scheme: `http` or `https`, for Superset's connection to Trino. as_people:
            whether it queries in the name of its user, with its own password.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        _add(file, "metadata.yaml", _METADATA)
        for asset in assets:
            content = dict(asset.content)
            if asset.kind == "databases":
                place = f"superset@{TRINO_PLACE}" if "@" in trino else TRINO_PLACE
                content["sqlalchemy_uri"] = content["sqlalchemy_uri"].replace(place, trino)
                content["impersonate_user"] = as_people
                if scheme == "https":
                    content["extra"] = _HTTPS
            _add(file, asset.path, content)
    return buffer.getvalue()


def _add(file: zipfile.ZipFile, name: str, content: object) -> None:
    entry = zipfile.ZipInfo(f"assets/{name}", _ZIP_TIME)
    file.writestr(entry, yaml.safe_dump(content, sort_keys=False))
