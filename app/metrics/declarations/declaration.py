"""The classes that declare metrics, panels and alerts; the other files of this folder use them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning"]
Team = Literal["platform", "data-engineering"]
# Gets alerts about the data itself: its contracts, and changes of its schema.
DATA_ENGINEERING: Team = "data-engineering"


@dataclass(frozen=True)
class Metric:
    """One family. A counter's `name` is without `_total`, which the text format adds."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        """The name to ask Prometheus for (of a histogram: its count)."""
        return {"counter": f"{self.name}_total", "histogram": f"{self.name}_count"}.get(
            self.kind, self.name
        )


@dataclass(frozen=True)
class Query:
    """A query for Prometheus. `unit` is Grafana's; `legend` names a series by its labels.

    Where they are empty, they follow from the names of the metric and of the labels.
    """

    promql: str
    unit: str = ""
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel of some queries; `width` is of 24 columns."""

    title: str
    queries: tuple[Query, ...]
    kind: Literal["stat", "timeseries", "table"]
    width: int
    help: str


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; its uid is `headwater-NAME`, its panels' ids count from 1 in their order."""

    name: str
    title: str
    panels: tuple[Panel, ...]

    @property
    def uid(self) -> str:
        return f"headwater-{self.name}"


@dataclass(frozen=True)
class Alert:
    """One alert. It fires while `asked` is above (`>`) or below (`<`) the threshold for `wait`.

    `asked` is a query of a panel, `normal` describes the usual value; `symptom` is the first text that a person
    reads. The section of `grafana/runbook.md` is named like the alert.
    """

    name: str
    asked: Query | str
    compare: Literal[">", "<"]
    threshold: float
    wait: str
    severity: Severity
    symptom: str
    normal: str
    team: Team = "platform"
    # True if series exist only after something has happened.
    may_be_absent: bool = False

    @property
    def promql(self) -> str:
        """The query, without the comparison."""
        return query_of(self.asked).promql

    @property
    def condition(self) -> str:
        """The whole condition, as a Prometheus rule has it."""
        return f"({self.promql}) {self.compare} {self.threshold:g}"

    @property
    def section(self) -> str:
        """The anchor of its section in the runbook, as forges make it of the heading."""
        return self.name.lower()

    @property
    def symptom_in_markdown(self) -> str:
        """The symptom, with the names of labels in place of their values."""
        return re.sub(r"{{ \$labels\.(\w+) }}", r"*\1*", self.symptom)


def gauge(name: str, help: str, *labels: str) -> Metric:
    """Declare the gauge `headwater_NAME`."""
    return Metric(f"headwater_{name}", "gauge", help, labels)


def counter(name: str, help: str, *labels: str) -> Metric:
    """Declare the counter `headwater_NAME_total`."""
    return Metric(f"headwater_{name}", "counter", help, labels)


def stat(title: str, *shown: Query | str, width: int = 4, help: str = "") -> Panel:
    """Declare a panel of the newest values; a text is PromQL."""
    return Panel(title, tuple(map(query_of, shown)), "stat", width, help)


def graph(title: str, *shown: Query | str, width: int = 8, help: str = "") -> Panel:
    """Declare a panel of values over time; a text is PromQL."""
    return Panel(title, tuple(map(query_of, shown)), "timeseries", width, help)


def query_of(shown: Query | str) -> Query:
    """Return the query; a text is PromQL."""
    return Query(shown) if isinstance(shown, str) else shown
