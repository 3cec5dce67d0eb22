"""The names of a key pair's files, in a service's folder `tls`."""

from __future__ import annotations

from collections.abc import Mapping

# Name in templates → file.
PAIR = {
    "key": "key.pem",
    "certificate": "certificate.pem",  # and the authority's behind it
    "both": "both.pem",  # key and certificates, as Kafka and Trino read them
    "keystore": "keystore.p12",  # the same as PKCS #12, for Jetty
}


def given_pair(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the files of key and certificate that a service of ours is given; None without TLS."""
    key = environment.get("HEADWATER_TLS_KEY")
    return (key, environment["HEADWATER_TLS_CERTIFICATE"]) if key else None
