"""The readers' images and pods agree with the settings and arguments of the programs."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest
import yaml

from app.cli.verbs.data.read import JAVA_ARGUMENTS, PYSPARK_JARS, SPARK_GROUPS, Library
from app.environment.settings import ROOT
from app.readers.reader_options import parse
from spark_streaming.storage.store_address import VARIABLES
from tests.unit.app.containers.test_compose import CONTAINERS

FOLDER = ROOT / "app" / "readers"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
JAVA = {path.stem: path.read_text() for path in FOLDER.rglob("*.java")}
PODS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((FOLDER / "kubernetes").glob("*-reader.yaml"))
}
pod = pytest.mark.parametrize("name", sorted(PODS))


def test_the_readers_are_programs_of_their_own() -> None:
    allowed = {
        "app.errors",
        "app.intake.client",
        "spark_streaming.storage.store_address",
        "spark_streaming.storage.store_clients",
    }
    found = {
        node.module
        for path in FOLDER.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
        if node.module.startswith(("app.", "spark_streaming"))
    }
    assert {name for name in found if not name.startswith("app.readers.")} <= allowed
    for name in allowed:
        assert f"{name.replace('.', '/')}.py" in DOCKERFILE


def test_every_reader_has_an_image_and_a_pod() -> None:
    names = {f"{library.value}-reader" for library in Library}
    assert set(PODS) == names
    for name in names:
        assert re.search(rf"^FROM .* AS {name}$", DOCKERFILE, re.M)
        assert f"--target {name} -t headwater-{name} ." in DOCKERFILE
        assert any(f'"{name}"' in text for text in (*JAVA.values(), *python_texts()))


def python_texts() -> list[str]:
    return [path.read_text() for path in FOLDER.glob("*.py")]


def test_the_images_are_built_on_the_stage_and_the_versions_of_the_others() -> None:
    stage = r"^FROM [^\n]* AS environment\n.*?(?=^FROM )"
    other = (ROOT / "connect" / "Dockerfile").read_text()
    assert (
        re.findall(stage, DOCKERFILE, re.M | re.S)[0]
        .strip()
        .startswith(re.findall(stage, other, re.M | re.S)[0].strip())
    )
    for argument in re.findall(r"^ARG .*$", DOCKERFILE, re.M):
        assert argument in other
    fetching = r"^COPY app/launcher/__init__\.py.*?app/launcher/$"
    assert re.findall(fetching, DOCKERFILE, re.M | re.S) == re.findall(fetching, other, re.M | re.S)


def test_an_image_runs_what_the_command_runs() -> None:
    assert f"gather /opt/headwater/dist java-reader {' '.join(SPARK_GROUPS)}" in DOCKERFILE
    [names] = re.findall(r"for name in ([a-z0-9 \\\n-]+);", DOCKERFILE)
    assert tuple(names.replace("\\", " ").split()) == PYSPARK_JARS
    [entry] = re.findall(r'^ENTRYPOINT (\["java".*\])$', DOCKERFILE, re.M)
    command = json.loads(entry)
    assert command[-1] == "@/opt/headwater/reader.args"
    assert f"COPY {JAVA_ARGUMENTS} /opt/headwater/reader.args" in DOCKERFILE
    package, _, name = (ROOT / JAVA_ARGUMENTS).read_text().split()[-1].rpartition(".")
    assert f"package {package};" in JAVA[name]
    assert CONTAINERS["java-reader"]["entrypoint"][1:] == command


def test_the_java_reader_takes_the_options_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse("t", ["--help"], {})
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert set(re.findall(r'case "(--[a-z-]+)"', JAVA["Options"])) == known


def container(name: str) -> dict[str, Any]:
    [found] = PODS[name]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pod
def test_a_pods_arguments_and_variables_are_what_its_reader_takes(name: str) -> None:
    given = container(name)
    assert given["image"] == f"headwater-{name}"
    taken = parse(name, given["args"], {})
    assert taken.state is not None and str(taken.state.parent) == "/state"
    shared = [*yaml.safe_load_all((FOLDER / "kubernetes" / "config.yaml").read_text())]
    variables = {*shared[0]["data"], *(each["name"] for each in given["env"])}
    own = JAVA.values() if name == "java-reader" else python_texts()
    read = set(re.findall(r'"(HEADWATER_[A-Z0-9_]+)"', " ".join(own)))
    if name != "java-reader":
        read |= {
            variable
            for field, variable in VARIABLES.items()
            if field not in ("bronze_bucket", "lake_folder")
        }
    assert variables == read
    for each in given["env"]:
        reference = each["valueFrom"]["secretKeyRef"]
        assert reference["name"] == "headwater-readers" and "value" not in each
    claims = {each["metadata"]["name"]: each["kind"] for each in shared}
    assert claims == {"headwater-readers": "PersistentVolumeClaim"} and len(shared) == 2


@pod
def test_a_pod_has_no_privileges_and_limits_on_everything(name: str) -> None:
    job = PODS[name]["spec"]["jobTemplate"]["spec"]
    spec, given = job["template"]["spec"], container(name)
    assert PODS[name]["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["backoffLimit"] <= 3 and job["activeDeadlineSeconds"] <= 900
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 1000
    assert re.search(rf"^FROM .* AS {name}\n(?:(?!FROM).*\n)*", DOCKERFILE, re.M)
    assert DOCKERFILE.count("USER 1000") == 2  # python-reader and java-reader
    assert spec["automountServiceAccountToken"] is False
    assert given["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(given["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    assert {"cpu", "memory"} == set(given["resources"]["requests"])
    mounted = {each["name"] for each in given["volumeMounts"]}
    assert mounted == {each["name"] for each in spec["volumes"]}
    assert all("sizeLimit" in each["emptyDir"] for each in spec["volumes"] if "emptyDir" in each)


def test_the_feeds_setting_reaches_the_services_in_containers() -> None:
    assert "HEADWATER_CHANGE_DATA_FEED" in CONTAINERS["config"]["environment"]
