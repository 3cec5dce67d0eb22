"""The stack's certificate authority is made once and renewed in time; its files are private."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from app.environment.encryption.authority import (
    AUTHORITY_DAYS,
    AUTHORITY_RENEW_WITHIN,
    PAIR_DAYS,
    RENEW_WITHIN,
    Authority,
    Pair,
)

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
HOSTS = ["localhost", "127.0.0.1", "kafka"]


@pytest.fixture
def at(tmp_path: Path) -> Callable[[datetime], Authority]:
    """The authority of one folder at a given time."""
    return lambda now: Authority(tmp_path / "tls", now)


def pair_at(
    authority: Authority, folder: Path, *, hosts: list[str] = HOSTS, password: str = "p"
) -> Pair:
    return authority.pair(folder / "run", "kafka", hosts, password)  # fmt: skip


def certificate(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair["certificate"].read_bytes())


def test_a_pair_names_its_hosts_and_is_signed_by_the_authority(
    at: Callable[[datetime], Authority], tmp_path: Path
) -> None:
    authority = at(NOW)
    mine = certificate(pair_at(authority, tmp_path))
    mine.verify_directly_issued_by(
        x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    )
    names = mine.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "kafka"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_every_file_is_readable_by_its_owner_only(
    at: Callable[[datetime], Authority], tmp_path: Path
) -> None:
    pair_at(at(NOW), tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3 + 4
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


@pytest.mark.parametrize(
    ("later", "again"),
    [
        (timedelta(days=PAIR_DAYS) - RENEW_WITHIN - timedelta(days=1), False),
        (timedelta(days=PAIR_DAYS) - RENEW_WITHIN, True),
        (timedelta(days=PAIR_DAYS + 1), True),
    ],
)
def test_a_pair_is_made_again_only_where_it_ends_soon(
    at: Callable[[datetime], Authority], tmp_path: Path, later: timedelta, again: bool
) -> None:
    first = certificate(pair_at(at(NOW), tmp_path))
    second = certificate(pair_at(at(NOW + later), tmp_path))
    assert (first != second) is again
    assert second.not_valid_after_utc - (NOW + later) > RENEW_WITHIN


def test_other_hosts_and_another_password_make_the_pair_again(
    at: Callable[[datetime], Authority], tmp_path: Path
) -> None:
    seen = [certificate(pair_at(at(NOW), tmp_path))]
    seen.append(certificate(pair_at(at(NOW), tmp_path, hosts=[*HOSTS, "kafka-2"])))
    again = pair_at(at(NOW), tmp_path, hosts=[*HOSTS, "kafka-2"], password="other")
    seen.append(certificate(again))
    assert len({one.serial_number for one in seen}) == 3
    assert pkcs12.load_pkcs12(again["keystore"].read_bytes(), b"other").cert


@pytest.mark.parametrize("file", ["certificate", "both", "keystore"])
def test_a_pair_with_a_broken_or_missing_file_is_made_again(
    at: Callable[[datetime], Authority], tmp_path: Path, file: str
) -> None:
    pair = pair_at(at(NOW), tmp_path)
    first = certificate(pair).serial_number
    if file == "both":
        pair[file].unlink()
    else:
        pair[file].write_bytes(b"half of it")
    assert certificate(pair_at(at(NOW), tmp_path)).serial_number != first


def test_the_authority_is_made_once_and_renewed_before_a_pair_could_outlive_it(
    at: Callable[[datetime], Authority], tmp_path: Path
) -> None:
    kept = at(NOW).certificate.read_bytes()
    last = NOW + timedelta(days=AUTHORITY_DAYS) - AUTHORITY_RENEW_WITHIN
    assert not at(last - timedelta(seconds=1)).renew()
    assert at(last).certificate.read_bytes() == kept
    before = certificate(pair_at(at(last), tmp_path))
    assert at(last).renew()
    after = certificate(pair_at(at(last), tmp_path))
    assert at(last).certificate.read_bytes() != kept
    assert before.serial_number != after.serial_number
    assert before.not_valid_after_utc < NOW + timedelta(days=AUTHORITY_DAYS)


def test_clients_trust_the_authority_and_whom_the_machine_trusts(
    at: Callable[[datetime], Authority], tmp_path: Path
) -> None:
    authority, other = at(NOW), Authority(tmp_path / "machine", NOW)
    authority.write_trusted(other.certificate.read_text())
    expected = [one.certificate.read_bytes() for one in (other, authority)]
    both = x509.load_pem_x509_certificates((tmp_path / "tls/trusted.pem").read_bytes())
    assert [one.public_bytes(Encoding.PEM) for one in both] == expected
    store = pkcs12.load_pkcs12((tmp_path / "tls/trusted.p12").read_bytes(), None)
    assert [
        one.certificate.public_bytes(Encoding.PEM) for one in store.additional_certs
    ] == expected
