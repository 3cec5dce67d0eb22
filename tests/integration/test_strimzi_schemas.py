"""The manifests of Kafka and Connect are valid by Strimzi's schemas, made with its own generator."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest
import yaml

from app.artefacts.compile import java
from app.artefacts.dist import Artefacts
from app.deploy.kubernetes import strimzi
from app.deploy.kubernetes.cluster_settings import Pods
from app.deploy.kubernetes.cluster_values import read_cluster
from app.environment.settings import ROOT

PODS = Pods(read_cluster())
MODEL = "io.strimzi.api.kafka.model"
CLASSES = {
    "Kafka": f"{MODEL}.kafka.Kafka",
    "KafkaNodePool": f"{MODEL}.nodepool.KafkaNodePool",
    "KafkaConnect": f"{MODEL}.connect.KafkaConnect",
    "KafkaConnector": f"{MODEL}.connector.KafkaConnector",
}
RESOURCES = {
    one["kind"] + one["metadata"]["name"]: one
    for one in [*strimzi.manifests(PODS), *strimzi.connectors(PODS)]
    if one["apiVersion"] == strimzi.API
}
Schema = dict[str, Any]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Schema]:
    """Kind → the schema that an API server checks, with unknown keys refused."""
    artefacts = Artefacts(ROOT)
    artefacts.prepare(["strimzi-crds"])
    folder = tmp_path_factory.mktemp("crds")
    classpath = os.pathsep.join(map(str, artefacts.classpath("strimzi-crds")))
    command = [str(java()), "-cp", classpath, "io.strimzi.crdgenerator.CrdGenerator", "--yaml"]
    command += [f"{name}=./{kind}.yaml" for kind, name in CLASSES.items()]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    found = {}
    for kind in CLASSES:
        definition = yaml.safe_load((folder / f"{kind}.yaml").read_text())["spec"]
        [version] = [
            one
            for one in definition["versions"]
            if f"{definition['group']}/{one['name']}" == strimzi.API
        ]
        found[kind] = closed(version["schema"]["openAPIV3Schema"])
    return found


def closed(schema: Schema) -> Schema:
    """A structural schema that refuses keys that an API server would drop."""
    found = copy.deepcopy(schema)
    for one in objects(found):
        if "properties" in one and not one.get("x-kubernetes-preserve-unknown-fields"):
            one.setdefault("additionalProperties", False)
        if one.get("x-kubernetes-int-or-string"):
            one["type"] = ["integer", "string"]
    # The server defines these itself.
    found["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    return found


def objects(schema: Any) -> Iterator[Schema]:
    """Each nested schema except alternatives, which only list required keys."""
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key not in ("oneOf", "anyOf", "allOf"):
                yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


@pytest.mark.parametrize("name", RESOURCES)
def test_every_resource_keeps_to_strimzis_schema(schemas: Mapping[str, Schema], name: str) -> None:
    jsonschema.validate(RESOURCES[name], schemas[RESOURCES[name]["kind"]])


@pytest.mark.parametrize(
    ("name", "path", "typo"),
    [
        ("Kafkaheadwater", ("spec", "kafka"), "listners"),
        ("KafkaNodePoolheadwater-brokers", ("spec", "storage"), "klass"),
        ("KafkaConnectheadwater", ("spec", "template", "connectContainer"), "envs"),
        ("KafkaConnectorbronze", ("spec",), "taskMax"),
    ],
)
def test_a_key_with_a_typo_is_refused(
    schemas: Mapping[str, Schema], name: str, path: tuple[str, ...], typo: str
) -> None:
    one = copy.deepcopy(RESOURCES[name])
    place = one
    for key in path:
        place = place[key]
    place[typo] = 1
    with pytest.raises(jsonschema.ValidationError, match=typo):
        jsonschema.validate(one, schemas[one["kind"]])


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        ("kafka/KafkaClusterSpec", strimzi.broker_config(PODS)),
        ("connect/KafkaConnectSpec", strimzi.worker_config(PODS)),
    ],
)
def test_no_property_is_set_that_strimzi_sets_itself(spec: str, config: Mapping[str, str]) -> None:
    """The operator drops these options with a warning; the resource's class has their prefixes."""
    artefacts = Artefacts(ROOT)
    artefacts.prepare(["strimzi-crds"])
    [jar] = [path for path in artefacts.classpath("strimzi-crds") if path.name.startswith("api-")]
    with zipfile.ZipFile(jar) as classes:
        constants = classes.read(f"{MODEL.replace('.', '/')}/{spec}.class")
    lists = re.findall(rb"(?:[a-zA-Z.]+, ){8,}[a-zA-Z.]+", constants)
    prefixes = {prefix for one in lists for prefix in one.decode().split(", ")}
    assert {"sasl.", "security."} < prefixes
    assert [key for key in config if key.startswith(tuple(prefixes))] == []
