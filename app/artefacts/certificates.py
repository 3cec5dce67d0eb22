"""Finds the bundle that servers' certificates are checked with. Standard library only."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

# Variables that `requests`, and so pip, reads itself.
VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Where distributions keep the certificates that the machine's owner trusts.
SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def certificates() -> str | bool:
    """The user's bundle or the machine's, as curl takes them.

    Returns: for `requests`: a file, or True if `requests` finds the right one itself. Its own
    bundle does not have the authority of a company whose proxy opens the connections.
    """
    if any(os.environ.get(name) for name in VARIABLES):
        return True
    candidates = (
        os.environ.get("SSL_CERT_FILE"),
        ssl.get_default_verify_paths().cafile,
        *SYSTEM_BUNDLES,
    )
    return next((path for path in candidates if path and Path(path).is_file()), True)
