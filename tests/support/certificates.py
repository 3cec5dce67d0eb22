"""Certificates of a test's own authority, made with openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DAYS = "2"
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the test's certificates"
)


def openssl(folder: Path, *arguments: str) -> None:
    ended = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def make_certificates(folder: Path) -> None:
    """A root, and a key and certificate of a server at 127.0.0.1 and of a client."""
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", DAYS)
    openssl(folder, *new, "-keyout", "root.key", "-out", "root.crt", "-subj", "/CN=test root")
    for name, alternative in (("server", "IP:127.0.0.1"), ("client", "DNS:client")):
        openssl(
            folder, *new, "-keyout", f"{name}.key", "-out", f"{name}.crt",
            "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}",
            "-addext", "basicConstraints=critical,CA:FALSE",
            "-CA", "root.crt", "-CAkey", "root.key",
        )  # fmt: skip
