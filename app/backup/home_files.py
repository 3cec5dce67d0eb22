"""The files of a home that nothing can make again, as one content: secrets, settings, contracts, access.

With a passphrase the content is encrypted (scrypt, then Fernet: AES-128 and HMAC). Without one only the
mode of its file protects it.
"""

from __future__ import annotations

import base64
import io
import os
import secrets
import tarfile
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from app.errors import HeadwaterError

PARTS = (
    "settings.toml", "secrets.json", "version.json", "access.toml", "access", "contracts", "tls",
)  # fmt: skip
VARIABLE = "HEADWATER_BACKUP_PASSPHRASE"
_SALT_BYTES = 16
BYTES_MAX = 256 << 20


def pack_home(home: Path, passphrase: str) -> bytes:
    """Return the home's files, encrypted if the passphrase is not empty."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for part in PARTS:
            if (home / part).exists():
                archive.add(home / part, arcname=part)
    content = buffer.getvalue()
    if len(content) > BYTES_MAX:
        raise HeadwaterError(
            f"the home's own files are larger than {BYTES_MAX >> 20} MB",
            detail=f"in {home}: {', '.join(PARTS)}",
            hint="move what is not Headwater's out of `contracts` and `access`",
        )
    if not passphrase:
        return content
    salt = secrets.token_bytes(_SALT_BYTES)
    return salt + _cipher(passphrase, salt).encrypt(content)


def unpack_home(content: bytes, home: Path, passphrase: str, *, encrypted: bool) -> None:
    """Write the files into a home, readable by its owner only.

    Raises: HeadwaterError if the passphrase is missing or wrong.
    """
    plain = _decrypted(content, passphrase) if encrypted else content
    home.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        for member in archive.getmembers():
            member.mode = 0o700 if member.isdir() else 0o600
            member.uid, member.gid = os.geteuid(), os.getegid()
            member.uname = member.gname = ""
            archive.extract(member, home, filter="data")


def _decrypted(content: bytes, passphrase: str) -> bytes:
    if not passphrase:
        raise HeadwaterError(
            "the backup's secrets are encrypted",
            hint=f"give the passphrase in the variable {VARIABLE}",
        )
    salt, token = content[:_SALT_BYTES], content[_SALT_BYTES:]
    try:
        return _cipher(passphrase, salt).decrypt(token)
    except InvalidToken:
        raise HeadwaterError(
            "the passphrase is not the one with which the backup was made",
            hint=f"set {VARIABLE}, without a line's end, to that passphrase",
        ) from None


def _cipher(passphrase: str, salt: bytes) -> Fernet:
    key = Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))
