"""Edges as OpenLineage events: one COMPLETE event for each object that is made from others.

The classes of openlineage-python make and check them. Its client is not used, because it reads
`OPENLINEAGE_*` and files of the working folder and the user's folder.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import column_lineage_dataset as lineage
from openlineage.client.serde import Serde

from app.environment.signed_in import without_user
from app.lineage.edge import BRONZE, COPY, FILTER, LAKE, MASK, TOPIC, Edge, Place

PRODUCER = "https://github.com/headwater/headwater"
_SUBTYPES = {COPY: "IDENTITY", FILTER: "FILTER"}


@dataclass(frozen=True)
class Naming:
    """Names this stack's objects by OpenLineage's rules; kinds without a rule are in `headwater://NAMESPACE`.

    Args:
        trino: Trino's URL; `kafka`: a broker's address; `bronze`: the bucket.
        stack: the namespace of the stack's jobs.
    """

    trino: str
    kafka: str
    bronze: str
    stack: str

    def dataset(self, place: Place) -> tuple[str, str]:
        """Return the namespace and the name of an object."""
        if place.namespace == LAKE:
            return f"trino://{urlsplit(without_user(self.trino)).netloc}", f"lake.{place.name}"
        if place.namespace == TOPIC:
            return f"kafka://{self.kafka.split(',')[0]}", place.name
        if place.namespace == BRONZE:
            return f"s3://{self.bronze}", place.name
        return f"headwater://{self.stack}/{place.namespace}", place.name


def by_target(edges: Collection[Edge]) -> dict[Place, frozenset[Edge]]:
    """Return the edges of each object that is made from others."""
    found: dict[Place, set[Edge]] = defaultdict(set)
    for edge in edges:
        found[edge.target.whole].add(edge)
    return {target: frozenset(some) for target, some in found.items()}


def event_of(target: Place, edges: Collection[Edge], naming: Naming, time: str) -> str:
    """Return the event about the origins of an object, as JSON.

    Args:
        time: ISO 8601 with its zone.
    Raises: ValueError if the library refuses a value.
    """
    columns: dict[str, list[Edge]] = defaultdict(list)
    whole: list[Edge] = []
    for edge in sorted(edges):
        (columns[edge.target.column] if edge.target.column else whole).append(edge)
    facet = lineage.ColumnLineageDatasetFacet(
        fields={
            column: lineage.Fields(inputFields=[_input(edge, naming) for edge in some if edge.origin.column])
            for column, some in columns.items()
        },
        dataset=[_input(edge, naming) for edge in whole if edge.origin.column],
        producer=PRODUCER,
    )  # fmt: skip
    namespace, name = naming.dataset(target)
    inputs = sorted({naming.dataset(edge.origin) for edge in edges})
    return Serde.to_json(
        RunEvent(
            eventTime=time,
            producer=PRODUCER,
            run=Run(runId=str(uuid.uuid4())),
            job=Job(namespace=naming.stack, name=f"{target.namespace}.{target.name}"),
            eventType=RunState.COMPLETE,
            inputs=[InputDataset(namespace=one, name=other) for one, other in inputs],
            outputs=[
                OutputDataset(namespace=namespace, name=name, facets={"columnLineage": facet})
            ],
        )
    )


def _input(edge: Edge, naming: Naming) -> lineage.InputField:
    namespace, name = naming.dataset(edge.origin)
    is_masked = edge.kind.startswith(MASK)
    transformation = lineage.Transformation(
        type="INDIRECT" if edge.kind == FILTER else "DIRECT",
        subtype=_SUBTYPES.get(edge.kind, "TRANSFORMATION"),
        description=edge.detail or edge.kind,
        masking=is_masked,
    )
    return lineage.InputField(
        namespace=namespace,
        name=name,
        field=edge.origin.column,
        transformations=[transformation],
    )


def naming_of(environment: Mapping[str, str]) -> Naming:
    """Return the naming for a service's `HEADWATER_*` variables."""
    return Naming(
        environment.get("HEADWATER_TRINO_URL", ""),
        environment.get("HEADWATER_KAFKA", ""),
        environment.get("HEADWATER_BRONZE_BUCKET", "bronze"),
        environment.get("HEADWATER_TOPIC_PREFIX", "hw"),
    )
