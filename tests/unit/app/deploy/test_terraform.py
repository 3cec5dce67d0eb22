"""The Terraform reference, as far as it can be tested without Google's provider: its form, names and grants."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.environment.settings import ROOT

FOLDER = ROOT / "app" / "deploy" / "terraform"
TEXT = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.tf"))}
CODE = re.sub(r"#[^\n]*", "", "\n".join(TEXT.values()))
# The allowed grants of an account: none reaches beyond one bucket, one secret, one account.
ROLES = {
    "roles/storage.legacyBucketReader",
    "roles/storage.objectCreator",
    "roles/storage.objectUser",
    "roles/storage.objectViewer",
    "roles/secretmanager.secretAccessor",
    "roles/iam.workloadIdentityUser",
}
NODE_ROLES = {
    "roles/artifactregistry.reader",
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
    "roles/stackdriver.resourceMetadata.writer",
}
# Terraform itself evaluates these, because they need no provider.
WITHOUT_PROVIDER = ("variables.tf", "grants.tf")
GIVEN = {"project": "p", "administrators": {"office": "203.0.113.0/24"}}

needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="needs terraform or tofu named so"
)


def terraform(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["terraform", *words], cwd=folder, capture_output=True, text=True, timeout=120
    )


def evaluated(folder: Path, **given: Any) -> subprocess.CompletedProcess[str]:
    """A plan of the variables and the grants, with these variables."""
    for name in WITHOUT_PROVIDER:
        (folder / name).write_text(TEXT[name])
    (folder / "shown.tf").write_text('output "grants" {\n  value = local.grants\n}\n')
    (folder / "terraform.tfvars.json").write_text(json.dumps({**GIVEN, **given}))
    assert terraform(folder, "init", "-backend=false").returncode == 0
    return terraform(folder, "apply", "-auto-approve", "-no-color", "-input=false")


@needs_terraform
def test_it_is_formatted() -> None:
    ended = terraform(FOLDER, "fmt", "-check", "-recursive", "-diff")
    assert ended.returncode == 0, ended.stdout


@needs_terraform
def test_the_grants_are_what_each_program_needs(tmp_path: Path) -> None:
    ended = evaluated(tmp_path)
    assert ended.returncode == 0, ended.stderr
    grants = json.loads(terraform(tmp_path, "output", "-json", "grants").stdout).values()
    found = {
        (one["program"], one["bucket"], one["role"].partition(".")[2], one["below"])
        for one in grants
    }
    # Bronze is never changed: no account may delete or replace an event.
    assert found == {
        ("s3", "bronze", "legacyBucketReader", None),
        ("s3", "bronze", "objectCreator", None),
        ("s3", "bronze", "objectViewer", None),
        ("s3", "bronze", "objectUser", "_headwater/"),
        ("s3", "lake", "legacyBucketReader", None),
        ("s3", "lake", "objectUser", None),
    }


@needs_terraform
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"administrators": {"all": "0.0.0.0/0"}}, "Not the whole internet"),
        ({"bronze_retention_days": 3}, "At least 30 days"),
        ({"name": "Headwater_1"}, "Lower-case letters"),
    ],
)
def test_a_value_that_is_dangerous_is_refused(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    ended = evaluated(tmp_path, **given)
    assert ended.returncode != 0
    assert said in ended.stderr


def test_every_name_that_is_referred_to_is_declared() -> None:
    resources = set(re.findall(r'^resource "(\w+)" "(\w+)"', CODE, re.MULTILINE))
    variables = set(re.findall(r'^variable "(\w+)"', CODE, re.MULTILINE))
    values = set(re.findall(r"^  (\w+)\s+= ", "".join(blocks("locals")), re.MULTILINE))
    assert set(re.findall(r"\b(google_\w+)\.(\w+)", CODE)) <= resources
    assert set(re.findall(r"\bvar\.(\w+)", CODE)) == variables
    assert set(re.findall(r"\blocal\.(\w+)", CODE)) <= values


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^{kind} {{\n(.*?)^}}", CODE, re.MULTILINE | re.DOTALL)


def test_no_account_has_a_role_beyond_its_work() -> None:
    assert set(re.findall(r'"(roles/[\w.]+)"', CODE)) == ROLES | NODE_ROLES
    assert "google_project_iam_binding" not in CODE
    [of_project] = re.findall(r'^resource "google_project_iam_member" "(\w+)"', CODE, re.MULTILINE)
    assert of_project == "nodes"


def test_no_secret_stands_in_the_state() -> None:
    for kind in (
        "secret_manager_secret_version",
        "sql_user",
        "service_account_key",
        "storage_hmac_key",
    ):
        assert f"google_{kind}" not in CODE
    assert "password" not in CODE


def test_what_it_is_for_is_switched_on() -> None:
    for line in (
        r'name  = "cloudsql.logical_decoding"\n\s+value = "on"',
        r"ipv4_enabled\s+= false",
        r'ssl_mode\s+= "ENCRYPTED_ONLY"',
        r'datapath_provider\s+= "ADVANCED_DATAPATH"',
        r'mode = "GKE_METADATA"',
    ):
        assert re.search(line, CODE), line
    assert len(re.findall(r'public_access_prevention\s+= "enforced"', CODE)) == 2
