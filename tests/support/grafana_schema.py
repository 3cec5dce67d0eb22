"""The files of Grafana's provisioning as closed types: an unknown or missing key is an error.

They follow Grafana's documentation of provisioning and of alerting's file provisioning (Grafana 9.4 to 13),
and its dashboard schema 39. They have only the fields that this project writes. A value from a list of
words must be one that all these versions know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Duration = Annotated[str, Field(pattern=r"^\d+(s|m|h)$")]
# Grafana's limit for uids that users set.
Uid = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,40}$")]
Text = Annotated[str, Field(min_length=1)]
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """`text` as Grafana reads it from a provisioning file: it replaces `$NAME` by the variable, `$$` by `$`.

    Raises: KeyError for a missing variable, which Grafana itself would replace by nothing.
    """
    parts = text.split("$$")
    return "$".join(_VARIABLE.sub(lambda m: environment[m[1] or m[2]], part) for part in parts)


# -- alerting: rules


class Evaluator(Closed):
    type: Literal["gt", "lt"]
    params: Annotated[list[float], Field(min_length=1, max_length=1)]


class Condition(Closed):
    evaluator: Evaluator


class PrometheusModel(Closed):
    refId: Text
    expr: Text
    instant: bool
    range: bool
    intervalMs: int
    maxDataPoints: int


class ThresholdModel(Closed):
    refId: Text
    type: Literal["threshold"]
    expression: Text
    # The only number of conditions that a threshold takes.
    conditions: Annotated[list[Condition], Field(min_length=1, max_length=1)]


class RelativeTimeRange(Closed):
    from_: int = Field(alias="from")
    to: int


class RuleQuery(Closed):
    refId: Text
    relativeTimeRange: RelativeTimeRange
    datasourceUid: Uid
    model: PrometheusModel | ThresholdModel


class Rule(Closed):
    uid: Uid
    title: Text
    condition: Text
    data: Annotated[list[RuleQuery], Field(min_length=1)]
    dashboardUid: Uid
    panelId: int
    noDataState: Literal["NoData", "Alerting", "OK"]
    execErrState: Literal["Error", "Alerting", "OK"]
    for_: Duration = Field(alias="for")
    annotations: dict[str, str]
    labels: dict[str, str]
    isPaused: bool


class RuleGroup(Closed):
    orgId: int
    name: Text
    folder: Text  # a title: these files have no uid for it
    interval: Duration
    rules: list[Rule]


class RulesFile(Closed):
    apiVersion: Literal[1]
    groups: list[RuleGroup]


# -- alerting: recipients


class WebhookSettings(Closed):
    url: Text
    httpMethod: Literal["POST", "PUT"]


class SlackSettings(Closed):
    url: Text  # an incoming webhook needs neither token nor recipient


class EmailSettings(Closed):
    addresses: Text
    singleEmail: bool


class Webhook(Closed):
    uid: Uid
    type: Literal["webhook"]
    settings: WebhookSettings


class Slack(Closed):
    uid: Uid
    type: Literal["slack"]
    settings: SlackSettings


class Email(Closed):
    uid: Uid
    type: Literal["email"]
    settings: EmailSettings


class ContactPoint(Closed):
    orgId: int
    name: Text
    receivers: list[Annotated[Webhook | Slack | Email, Field(discriminator="type")]]


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Operator = Literal["=", "!=", "=~", "!~"]


class TimeInterval(Closed):
    weekdays: list[Weekday]


class MuteTime(Closed):
    orgId: int
    name: Text
    time_intervals: list[TimeInterval]


class Route(Closed):
    receiver: Text
    object_matchers: list[Annotated[list[Any], Field(min_length=3, max_length=3)]]
    repeat_interval: Duration
    mute_time_intervals: list[str]


class TeamRoute(Closed):
    """A team's alerts; missing keys are the root's, and its routes come first."""

    receiver: Text
    object_matchers: list[Annotated[list[Any], Field(min_length=3, max_length=3)]]
    routes: list[Route]


class Policy(Closed):
    """The root of an organisation's policies; it must not have mute timings."""

    orgId: int
    receiver: Text
    group_by: list[str]
    group_wait: Duration
    group_interval: Duration
    repeat_interval: Duration
    routes: list[TeamRoute | Route]


class NotificationsFile(Closed):
    apiVersion: Literal[1]
    contactPoints: list[ContactPoint]
    muteTimes: list[MuteTime]
    policies: list[Policy]


# -- data source and dashboards


class PrometheusOptions(Closed):
    timeInterval: Duration
    httpMethod: Literal["POST", "GET"]


class DataSource(Closed):
    name: Text
    uid: Uid
    type: Literal["prometheus"]
    access: Literal["proxy", "direct"]
    url: Text
    isDefault: bool
    editable: bool
    jsonData: PrometheusOptions


class DataSourcesFile(Closed):
    apiVersion: Literal[1]
    datasources: list[DataSource]


class ProviderOptions(Closed):
    path: Text


class Provider(Closed):
    name: Text
    orgId: int
    folder: Text
    folderUid: Uid
    type: Literal["file"]
    disableDeletion: bool
    allowUiUpdates: bool
    updateIntervalSeconds: int
    options: ProviderOptions


class ProvidersFile(Closed):
    apiVersion: Literal[1]
    providers: list[Provider]


class DataSourceRef(Closed):
    type: Literal["prometheus"]
    uid: Uid


class GridPos(Closed):
    x: Annotated[int, Field(ge=0, lt=24)]
    y: Annotated[int, Field(ge=0)]
    w: Annotated[int, Field(gt=0, le=24)]
    h: Annotated[int, Field(gt=0)]


class Target(Closed):
    refId: Text
    datasource: DataSourceRef
    expr: Text
    legendFormat: Text
    instant: bool
    range: bool


class Step(Closed):
    color: Literal["green", "orange", "red"]
    value: float | None


class Thresholds(Closed):
    mode: Literal["absolute", "percentage"]
    steps: Annotated[list[Step], Field(min_length=1)]


class FieldDefaults(Closed):
    # Ids of Grafana's value formats.
    unit: Literal["short", "percentunit", "s", "ms", "h", "bytes", "Bps", "cps"]
    thresholds: Thresholds


class FieldConfig(Closed):
    defaults: FieldDefaults
    overrides: list[Any]


class Legend(Closed):
    displayMode: Literal["list", "table", "hidden"]
    placement: Literal["bottom", "right"]


class GraphOptions(Closed):
    legend: Legend


class ReduceOptions(Closed):
    calcs: list[Literal["lastNotNull"]]


class StatOptions(Closed):
    reduceOptions: ReduceOptions
    colorMode: Literal["none", "value", "background"]


class Panel(Closed):
    id: int
    title: Text
    description: str
    type: Literal["stat", "timeseries"]
    datasource: DataSourceRef
    gridPos: GridPos
    targets: Annotated[list[Target], Field(min_length=1)]
    fieldConfig: FieldConfig
    options: GraphOptions | StatOptions


class Link(Closed):
    type: Literal["dashboards", "link"]
    tags: list[str]
    title: Text
    asDropdown: bool
    keepTime: bool


class Dashboard(Closed):
    uid: Uid
    title: Text
    tags: list[str]
    schemaVersion: Literal[39]
    version: int
    editable: bool
    refresh: Duration
    time: dict[Literal["from", "to"], str]
    timezone: Literal["browser", "utc"]
    links: list[Link]
    panels: list[Panel]
