"""The dashboards as code have fixed uuids, valid references, no secrets and tidy exports."""

from __future__ import annotations

import copy
import io
import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.catalog.views import read_views
from app.dashboards.assets import (
    Asset,
    archive,
    chart_places,
    chart_uuids,
    closure,
    filters,
    for_source,
    read_assets,
)
from app.dashboards.export import dump, exported_files, path_of, slugified, tidy
from app.dashboards.load import FOLDER
from app.environment.settings import ROOT, load
from app.errors import HeadwaterError
from app.launcher.control import Stack
from app.services.service import dashboard_services
from app.store.tables.schema import metadata
from spark_streaming.ops.ledger import SCHEMA as LEDGER
from spark_streaming.quarantine.quarantine import SCHEMA as QUARANTINE

ASSETS = read_assets(FOLDER)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
QUESTIONS_PER_S_MAX = 0.4  # of one open dashboard; each takes some tenths of a CPU second
PICTURE_BYTES_MAX = 200_000
FRESH_TILE = "charts/data-as-of.yaml"


def of_kind(kind: str) -> list[Asset]:
    return sorted((a for a in ASSETS.values() if a.kind == kind), key=lambda asset: asset.path)


def names(assets: list[Asset]) -> list[str]:
    return [asset.path for asset in assets]


BY_PATH = {asset.path: asset for asset in ASSETS.values()}
each_chart = pytest.mark.parametrize("chart", of_kind("charts"), ids=lambda a: a.path)
each_dataset = pytest.mark.parametrize("dataset", of_kind("datasets"), ids=lambda a: a.path)
each_dashboard = pytest.mark.parametrize("board", of_kind("dashboards"), ids=lambda a: a.path)


def test_every_asset_has_a_whole_uuid_and_all_references_resolve() -> None:
    assert len(ASSETS) > 20  # read_assets has checked that uuids are unique and references valid
    assert [a.path for a in ASSETS.values() if not UUID.fullmatch(a.uuid)] == []


def test_nothing_is_left_over_that_no_dashboard_shows() -> None:
    used = closure(ASSETS, [board.uuid for board in of_kind("dashboards")])
    assert set(names(used)) == set(BY_PATH)


def test_no_asset_holds_a_password_or_an_address_of_one_stack() -> None:
    for path in FOLDER.rglob("*.yaml"):
        text = path.read_text()
        assert "password" not in text.lower(), path
        assert not re.search(r"127\.0\.0\.1|localhost|:\d{4,5}/", text), path


def test_every_file_is_written_as_an_export_would_write_it() -> None:
    found = [a.path for a in ASSETS.values() if dump(a.content) != (FOLDER / a.path).read_text()]
    assert found == []


@each_dataset
def test_a_dataset_names_the_columns_that_its_table_has(dataset: Asset) -> None:
    schema, table = dataset.content["schema"], dataset.content["table_name"]
    columns = [column["column_name"] for column in dataset.content["columns"]]
    if "sql" in dataset.content:
        selected = dataset.content["sql"].split("\nFROM ")[0]
        assert columns == re.findall(r"(\w+),?$", selected, re.MULTILINE)[1:]
    elif schema == "silver":
        assert set(columns) <= set(metadata.tables[table].columns.keys())
    elif table in ("ledger", "quarantine"):
        assert set(columns) <= set((LEDGER if table == "ledger" else QUARANTINE).names)
    else:
        views = {view.name for view in read_views(ROOT / "trino" / "views")}
        assert f"{schema}.{table}" in views
        header = (ROOT / "trino" / "views" / f"{table}.sql").read_text().split("\nSELECT")[0]
        assert columns == re.findall(r"^--   (\w+) ", header, re.MULTILINE)


@each_dataset
def test_a_dataset_is_found_where_its_schema_and_table_say(dataset: Asset) -> None:
    assert dataset.path == path_of("datasets", dataset.content)
    assert dataset.content["catalog"] == "lake"


@each_chart
def test_a_chart_asks_for_columns_and_metrics_that_its_dataset_has(chart: Asset) -> None:
    dataset = ASSETS[chart.content["dataset_uuid"]].content
    columns = {column["column_name"] for column in dataset["columns"]}
    metrics = {metric["metric_name"] for metric in dataset["metrics"]}
    params = chart.content["params"]
    asked = {*params.get("groupby", []), *params.get("all_columns", [])}
    asked |= {params["x_axis"]} if "x_axis" in params else set()
    asked |= {each["subject"] for each in params["adhoc_filters"]}
    asked |= {json.loads(text)[0] for text in params.get("order_by_cols", [])}
    assert asked - columns == set()
    shown = {*params.get("metrics", [])} | ({params["metric"]} if "metric" in params else set())
    assert shown - metrics == set()
    assert params["viz_type"] == chart.content["viz_type"]


@each_chart
def test_an_axis_of_categories_has_no_times_which_superset_would_write_as_nan(chart: Asset) -> None:
    columns = ASSETS[chart.content["dataset_uuid"]].content["columns"]
    times = {column["column_name"] for column in columns if column["is_dttm"]}
    params = chart.content["params"]
    assert not (params.get("xAxisForceCategorical") and params["x_axis"] in times)


@pytest.mark.parametrize("kind", ["databases", "datasets", "charts"])
def test_no_answer_is_ever_kept(kind: str) -> None:
    assert {asset.content["cache_timeout"] for asset in of_kind(kind)} == {-1}


@each_dashboard
def test_a_dashboard_refreshes_by_itself_and_not_all_at_once(board: Asset) -> None:
    about = board.content["metadata"]
    assert 10 <= about["refresh_frequency"] <= 30
    assert about["stagger_refresh"] is True
    # A round begins this long after the end of the last one, and its queries are spread.
    round_s = about["refresh_frequency"] + about["stagger_time"] / 1_000
    assert len(chart_uuids(board.content)) / round_s < QUESTIONS_PER_S_MAX
    assert board.path == f"dashboards/{board.content['slug']}.yaml"


@each_dashboard
def test_a_dashboard_says_of_when_its_data_is(board: Asset) -> None:
    assert BY_PATH[FRESH_TILE].uuid in chart_uuids(board.content)


@each_dashboard
def test_the_layout_fits_the_grid_and_shows_each_chart_once(board: Asset) -> None:
    position = board.content["position"]
    for row in position["GRID_ID"]["children"]:
        widths = [position[child]["meta"]["width"] for child in position[row]["children"]]
        assert sum(widths) <= 12, row
    uuids = chart_uuids(board.content)
    assert [uuid for uuid, times in Counter(uuids).items() if times > 1] == []
    for place in chart_places(board.content):
        assert place["sliceName"] == ASSETS[place["uuid"]].content["slice_name"]


@each_dashboard
def test_a_filter_reaches_only_charts_that_have_its_column(board: Asset) -> None:
    numbers = {place["chartId"]: place["uuid"] for place in chart_places(board.content)}
    for each in filters(board.content):
        reached = [u for number, u in numbers.items() if number not in each["scope"]["excluded"]]
        assert reached
        for uuid in reached:
            chart = ASSETS[uuid].content
            dataset = ASSETS[chart["dataset_uuid"]].content
            if each["filterType"] == "filter_time":
                asked = [one["operator"] for one in chart["params"]["adhoc_filters"]]
                assert "TEMPORAL_RANGE" in asked, chart["slice_name"]
            else:
                [target] = each["targets"]
                columns = {column["column_name"] for column in dataset["columns"]}
                assert target["column"]["name"] in columns, chart["slice_name"]


@each_dashboard
def test_the_readme_shows_each_dashboard_in_a_small_picture(board: Asset) -> None:
    name = f"screenshots/{board.content['slug']}.jpg"
    assert f"]({name})" in (FOLDER.parent / "README.md").read_text()
    assert 10_000 < (FOLDER.parent / name).stat().st_size < PICTURE_BYTES_MAX


def test_up_waits_for_superset_only_where_it_is_asked_for(tmp_path: Path) -> None:
    stack = Stack(load(tmp_path, dashboards=True))
    superset = dashboard_services(stack.services)
    chosen = stack.select([])
    assert set(superset) < set(chosen)
    assert set(superset).isdisjoint(stack.awaited(chosen))
    assert set(superset) < set(stack.awaited(chosen, superset))
    without = Stack(load(tmp_path))
    assert set(without.select([])) == set(chosen) - set(superset)


def test_another_source_gets_what_reads_no_table_of_the_store() -> None:
    found = for_source(ASSETS, demo_store=False)
    assert "dashboards/freshness.yaml" in names(found)
    assert "dashboards/store.yaml" not in names(found)
    schemas = {a.content["schema"] for a in found if a.kind == "datasets"}
    assert schemas == {"ops"}
    assert len(for_source(ASSETS, demo_store=True)) == len(ASSETS)


def test_the_archive_is_the_same_each_time_and_names_this_stacks_trino() -> None:
    assets = for_source(ASSETS, demo_store=True)
    content = archive(assets, trino="127.0.0.1:7")
    assert content == archive(assets, trino="127.0.0.1:7")
    with zipfile.ZipFile(io.BytesIO(archive(assets, trino="t:7", scheme="https"))) as encrypted:
        database = yaml.safe_load(encrypted.read("assets/databases/trino.yaml"))
    assert database["extra"]["engine_params"]["connect_args"] == {"http_scheme": "https"}
    signed = archive(assets, trino="superset:pw@t:7", scheme="https", as_people=True)
    with zipfile.ZipFile(io.BytesIO(signed)) as encrypted:
        database = yaml.safe_load(encrypted.read("assets/databases/trino.yaml"))
    assert database["impersonate_user"] is True
    assert database["sqlalchemy_uri"] == "trino://superset:pw@t:7/lake"
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = file.namelist()
        [database] = [name for name in members if name.startswith("assets/databases/")]
        address = yaml.safe_load(file.read(database))["sqlalchemy_uri"]
        about = yaml.safe_load(file.read("assets/metadata.yaml"))
    assert address == "trino://superset@127.0.0.1:7/lake"
    assert about == {"version": "1.0.0", "type": "assets"}
    assert len(members) == len(assets) + 1


def as_superset_exports(board: Asset, number: int) -> dict[str, Any]:
    """A dashboard as Superset exports it: with its own chart numbers, and values that its page computes."""
    content = copy.deepcopy(board.content)
    for place in chart_places(content):
        place["chartId"] = number + place["chartId"] * 3
    for each in filters(content):
        each["scope"]["excluded"] = [number + n * 3 for n in each["scope"]["excluded"]]
        each["chartsInScope"] = [number]
    content["metadata"]["chart_configuration"] = {str(number): {"id": number}}
    return {**content, "certified_by": None, "theme_uuid": None}


@each_dashboard
def test_an_exported_dashboard_is_the_file_again_whatever_numbers_superset_gave(
    board: Asset,
) -> None:
    assert tidy("dashboards", as_superset_exports(board, 100), board.content) == board.content


def test_an_exported_dataset_keeps_the_order_of_its_file_and_new_columns_come_last() -> None:
    dataset = BY_PATH["datasets/reports/top_customers.yaml"]
    exported = copy.deepcopy(dataset.content)
    exported["columns"] = [{"column_name": "added", "extra": None}, *exported["columns"][::-1]]
    expected = [*dataset.content["columns"], {"column_name": "added"}]
    assert tidy("datasets", exported, dataset.content)["columns"] == expected


def test_an_export_keeps_the_paths_of_known_assets_and_names_new_ones_by_their_title() -> None:
    chart = BY_PATH["charts/revenue.yaml"].content
    renamed = {**chart, "slice_name": "Money", "query_context": "{}", "description": None}
    renamed["params"] = {**chart["params"], "datasource": "8__table", "slice_id": 4}
    new = {**chart, "uuid": "0e4bdb5c-0f0c-4b30-8d8e-f3b9a9f8b1aa", "slice_name": "Was, & is"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("export_1/metadata.yaml", "version: 1.0.0")
        file.writestr("export_1/databases/Trino.yaml", "uuid: none of ours")
        file.writestr("export_1/charts/Money_4.yaml", yaml.safe_dump(renamed))
        file.writestr("export_1/charts/Was_5.yaml", yaml.safe_dump(new))
    found = exported_files(buffer.getvalue(), ASSETS)
    assert {path: yaml.safe_load(text) for path, text in found.items()} == {
        "charts/revenue.yaml": {**chart, "slice_name": "Money"},
        "charts/was-is.yaml": new,
    }


def test_a_name_becomes_a_file_name() -> None:
    assert slugified("Ratings: by Genre (live)") == "ratings-by-genre-live"
    assert slugified("revenue_by_hour") == "revenue_by_hour"


@pytest.mark.parametrize(
    "path, content, message",
    [
        ("charts/a.yaml", "[broken", "is not YAML"),
        ("charts/a.yaml", "slice_name: A", "is not an asset"),
        ("queries/a.yaml", "uuid: a", "is not an asset"),
        ("charts/a.yaml", "{uuid: a, dataset_uuid: b}", "a.yaml refers to b"),
    ],
)
def test_a_wrong_asset_is_an_error_that_names_its_file(
    tmp_path: Path, path: str, content: str, message: str
) -> None:
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(content)
    with pytest.raises(HeadwaterError, match=message):
        read_assets(tmp_path)


def test_two_assets_with_one_uuid_are_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "databases").mkdir(exist_ok=True)
        (tmp_path / "databases" / f"{name}.yaml").write_text("uuid: same")
    with pytest.raises(HeadwaterError, match=r"b.yaml has the uuid of databases/a.yaml"):
        read_assets(tmp_path)
