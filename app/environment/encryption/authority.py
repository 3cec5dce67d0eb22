"""The stack's own certificate authority: one for a home, one key pair for each service that listens.

    tls/ca.key, tls/ca.pem    the authority; whoever has its key is trusted by every part
    run/<service>/tls/…       a service's pair, in the forms that programs read; all files 0600

Made at the first start. A service's pair is renewed at a start of that service when it ends within
RENEW_WITHIN, the authority at a start of the stack; nothing of it is ever printed.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.environment.encryption.pair_files import PAIR
from app.environment.loopback import CA, TRUSTED, TRUSTED_STORE, TRUSTSTORE

AUTHORITY_DAYS, PAIR_DAYS = 3650, 365
RENEW_WITHIN = timedelta(days=60)
# A pair that is made today ends before its authority is made again.
AUTHORITY_RENEW_WITHIN = timedelta(days=PAIR_DAYS) + RENEW_WITHIN
# A machine whose clock is a little behind must not refuse a pair that was just made.
_BEFORE = timedelta(minutes=10)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_AUTHORITY = "Headwater, this stack only"


@dataclass(frozen=True)
class Pair:
    """The files of a service's key pair, by the names of PAIR."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / PAIR[name]

    def files(self) -> list[Path]:
        """Return all of them."""
        return [self[name] for name in PAIR]


class Authority:
    """The authority of a home, in its folder `tls`; made at its first use.

    Args:
        now: the clock; None: the current time.
    """

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        self._folder = folder
        self._now = now or datetime.now(timezone.utc)
        if not (self.certificate.exists() and self._key.exists()):
            self._make()

    @property
    def certificate(self) -> Path:
        """The certificate that clients check the stack's servers with."""
        return self._folder / CA

    @property
    def truststore(self) -> Path:
        """The same as PKCS #12, for JVMs: it holds no secret and has no password."""
        return self._folder / TRUSTSTORE

    def renew(self) -> bool:
        """Renew the authority if it expires soon; call this while no service runs.

        Returns: whether it was made again; the services' pairs then follow at their starts.
        """
        ends = _read(self.certificate).not_valid_after_utc
        if ends - self._now > AUTHORITY_RENEW_WITHIN:
            return False
        self._make()
        return True

    def write_trusted(self, others: str) -> None:
        """Write the certificates that clients trust: this authority's and `others`, as PEM."""
        text = "\n".join([others, self.certificate.read_text()]).lstrip()
        _write(self._folder / TRUSTED, text.encode())
        _write(self._folder / TRUSTED_STORE, _truststore(_certificates(text)))

    def pair(self, folder: Path, service: str, hosts: Sequence[str], password: str) -> Pair:
        """Return the key pair of a service; make or renew it if needed.

        Args:
            folder: where its files are.
            hosts: the names and addresses at which clients reach it.
            password: of its keystore.
        """
        pair = Pair(folder)
        if not self._is_good(pair, hosts, password):
            self._issue(pair, service, hosts, password)
        return pair

    def _is_good(self, pair: Pair, hosts: Sequence[str], password: str) -> bool:
        with suppress(OSError, ValueError, TypeError, InvalidSignature):
            mine = _read(pair["certificate"])
            mine.verify_directly_issued_by(_read(self.certificate))
            pkcs12.load_pkcs12(pair["keystore"].read_bytes(), password.encode())
            lasts = mine.not_valid_after_utc - self._now > RENEW_WITHIN
            there = all(path.exists() for path in pair.files())
            return there and lasts and _names(mine) == _alternatives(hosts)
        return False  # it is missing, from another authority, or has another password

    def _issue(self, pair: Pair, service: str, hosts: Sequence[str], password: str) -> None:
        issuer = _read(self.certificate)
        signer = load_pem_private_key(self._key.read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._builder(service, issuer.subject, key, PAIR_DAYS)
            .add_extension(_alternatives(hosts), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(signer, hashes.SHA256())
        )
        chain, private = _pem(certificate) + _pem(issuer), _private(key)
        sealed = BestAvailableEncryption(password.encode())
        _write(pair["key"], private)
        _write(pair["certificate"], chain)
        _write(pair["both"], private + chain)
        store = pkcs12.serialize_key_and_certificates(
            service.encode(), key, certificate, [issuer], sealed
        )
        _write(pair["keystore"], store)

    @property
    def _key(self) -> Path:
        return self._folder / "ca.key"

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(_AUTHORITY, _name(_AUTHORITY), key, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(self._key, _private(key))
        _write(self.truststore, _truststore([certificate]))
        _write(self.certificate, _pem(certificate))

    def _builder(
        self, subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _BEFORE)
            .not_valid_after(self._now + timedelta(days=days))
        )


def _certificates(text: str) -> list[x509.Certificate]:
    """Return all that can be read: a machine may trust an old one that breaks today's rules."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in _CERTIFICATE.findall(text):
            with suppress(ValueError):
                found.append(x509.load_pem_x509_certificate(block.encode()))
    return found


def _truststore(certificates: Sequence[x509.Certificate]) -> bytes:
    trusted = [
        pkcs12.PKCS12Certificate(certificate, f"headwater {number}".encode())
        for number, certificate in enumerate(certificates)
    ]
    return pkcs12.serialize_java_truststore(trusted, NoEncryption())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternatives(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative(host) for host in hosts])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes) -> None:
    """Replace a file at once, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(temporary, path)
