"""The bill of materials of a release: every locked package and jar, as CycloneDX 1.6 in JSON.

It is made from the lock files alone, so the same clone gives the same bill, byte for byte.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from app.artefacts.locking.lock import LockedFile, read_lock
from app.environment.stamp import version

PYTHON_LOCKS = (
    "requirements/runtime.lock", "superset/requirements.lock", "app/jobs/dagster/requirements.lock",
    "app/models/tracking/requirements.lock", "app/notebooks/requirements.lock",
)  # fmt: skip
# Fetched by tests only.
FOR_TESTS = re.compile(r"postgres-\d+|ecj|hadoop-api|trino-spi|strimzi-crds")
LICENCE = "Apache-2.0"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?$")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "headwater")
Component = dict[str, Any]


def bill(root: Path) -> str:
    """Write the bill of a clone's lock files as text."""
    components = [*python_packages(root), *jars(root)]
    content = json.dumps(components, sort_keys=True)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "headwater",
                "name": "headwater",
                "version": version(),
                "licenses": [{"license": {"id": LICENCE}}],
            }
        },
        "components": components,
    }
    return json.dumps(document, indent=1) + "\n"


def python_packages(root: Path) -> Iterator[Component]:
    """Each pinned version of the Python locks, with the locks that contain it.

    A lock has one checksum for each file of a version; which one a machine takes, the bill does not know.
    """
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    markers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for lock in PYTHON_LOCKS:
        for line in (root / lock).read_text().splitlines():
            pinned = _PINNED.match(line)
            if pinned:
                name, number, marker = pinned.groups()
                found[name, number].append(lock)
                markers[name, number] |= {marker} if marker else set()
    for name, number in sorted(found):
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(number)}"
        said = [("lock", lock) for lock in found[name, number]]
        said += [("marker", marker) for marker in sorted(markers[name, number])]
        yield _component(name, number, purl, said)


def jars(root: Path) -> Iterator[Component]:
    """Each locked file of the groups that a stack is made of, with its checksum and its groups."""
    groups: dict[LockedFile, list[str]] = defaultdict(list)
    for name, group in read_lock(root).groups.items():
        if not FOR_TESTS.fullmatch(name):
            for file in group.files:
                groups[file].append(name)
    for file in sorted(groups):
        one = file.coordinate
        kind = {"type": one.extension} | ({"classifier": one.classifier} if one.classifier else {})
        purl = f"pkg:maven/{one.group}/{one.artifact}@{quote(one.version)}?{urlencode(sorted(kind.items()))}"
        found = _component(
            one.artifact, one.version, purl, [("group", name) for name in sorted(groups[file])]
        )
        found["group"] = one.group
        found["hashes"] = [{"alg": "SHA-256", "content": file.sha256}]
        yield found


def _component(name: str, number: str, purl: str, said: list[tuple[str, str]]) -> Component:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": number,
        "purl": purl,
        "properties": [{"name": f"headwater:{key}", "value": value} for key, value in said],
    }
