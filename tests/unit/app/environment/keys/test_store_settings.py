"""Which object store a profile names, and which it cannot name."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.environment.settings import load
from app.environment.toml_files import SettingsError


def written(folder: Path, text: str) -> Path:
    path = folder / "profile.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "embedded", "here", "provider"),
    [
        ("", True, True, "filesystem-nio2"),
        ('s3_endpoint = "https://s3.example"', False, False, "filesystem-nio2"),
        ('gcs_credentials = "/etc/key.json"', True, False, "google-cloud-storage"),
        ('gcs_credentials = "default"', True, False, "google-cloud-storage"),
    ],
)
def test_a_profile_says_where_objects_lie(
    tmp_path: Path, text: str, embedded: bool, here: bool, provider: str
) -> None:
    profile = load(tmp_path / "home", written(tmp_path, text)).profile
    found = (profile.embedded_s3, profile.objects_here, profile.store_provider)
    assert found == (embedded, here, provider)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('gcs_project = "acme"', "gcs_project and gcs_endpoint need gcs_credentials"),
        ('gcs_credentials = "none"', "give its gcs_endpoint"),
        ('gcs_credentials = "key.json"', "neither an absolute path nor 'default' or 'none'"),
        ('gcs_credentials = "default"\ns3_endpoint = "https://s3.example"', "give one of them"),
        ('gcs_credentials = "none"\ngcs_endpoint = "127.0.0.1:1"', "setting `gcs_endpoint`"),
    ],
)
def test_a_profile_with_half_a_store_or_two_is_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(SettingsError, match=r"profile\.toml") as refused:
        load(tmp_path / "home", written(tmp_path, text))
    assert told in str(refused.value)


def test_everybody_asks_google_through_the_stacks_own_service(tmp_path: Path) -> None:
    settings = load(tmp_path / "home", written(tmp_path, 'gcs_credentials = "/etc/key.json"'))
    assert settings.store.endpoint == f"http://{settings.ports.address('s3')}"
    assert "/etc/key.json" not in settings.environment().values()
