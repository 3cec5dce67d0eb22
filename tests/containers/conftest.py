"""The compose stack, started once for this tier's tests.

By default images are made on this machine (images.py), which needs debootstrap and root, and no
registry. With HEADWATER_TEST_IMAGES=official the official images are pulled; with
HEADWATER_TEST_IMAGES=kept the images of the last run are used unchanged.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest

from app.artefacts.locking.cache import default_cache
from tests.containers.engine import engine
from tests.containers.images import build_all
from tests.containers.project import IMAGES, Containers
from tests.support.stack import free_port_offset


@pytest.fixture(scope="session")
def project() -> Iterator[Containers]:
    """A compose project with its images, not started; at the end it is removed with its volumes."""
    # In the cache, so that the base and its images are made only once.
    work = default_cache() / "containers"
    with engine(work / "docker") as docker:
        os.environ.update(docker)
        if IMAGES == "made":
            if shutil.which("debootstrap") is None:
                pytest.skip("debootstrap is not here: it makes the base of the images")
            started = time.monotonic()
            build_all(work, full=True)
            print(f"images: {time.monotonic() - started:.0f} s")
        with free_port_offset() as offset:
            made = Containers(offset, docker)
            try:
                yield made
            finally:
                made.remove()


@pytest.fixture(scope="session")
def containers(project: Containers) -> Containers:
    """The core stack in containers, healthy."""
    project.up()
    return project
