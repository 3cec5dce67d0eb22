"""Connects briefly to an address, and returns the reason of a failure; each check takes seconds.

Every function returns (the observation, what to do), both empty on success.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
Trouble = tuple[str, str]
WELL: Trouble = ("", "")


def check_tcp(address: str, *, default_port: int) -> Trouble:
    """Connect to `host:port`."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        host, port = address, str(default_port)
    try:
        socket.create_connection((host, int(port)), TIMEOUT_S).close()
    except OSError as error:
        return _explained(f"{host}:{port}", error)
    return WELL


def check_http(url: str) -> Trouble:
    """Connect to the host of a URL, with TLS for https; nothing is requested."""
    parts = urlsplit(url)
    if parts.hostname is None:
        return "it is not a URL with a host", "write it as https://host/path"
    try:
        address = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        with socket.create_connection(address, TIMEOUT_S) as plain:
            if parts.scheme == "https":
                context = ssl.create_default_context()
                context.wrap_socket(plain, server_hostname=parts.hostname).close()
    except (OSError, ValueError) as error:
        # The path of a webhook is its secret.
        return _explained(f"{parts.scheme}://{parts.hostname}", error)
    return WELL


def check_mail(address: str, user: str | None, password: str | None) -> Trouble:
    """Greet a mail server, and log in if a user is given; no mail is sent."""
    host, _, port = address.rpartition(":")
    try:
        with smtplib.SMTP(host, int(port), timeout=TIMEOUT_S) as server:
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
            if user is not None:
                server.login(user, password or "")
    except smtplib.SMTPAuthenticationError as error:
        return (
            f"{address} refuses the user {user} (code {error.smtp_code})",
            "check alert_smtp_user and alert_smtp_password in the profile",
        )
    except smtplib.SMTPNotSupportedError:
        return (
            f"{address} offers no log-in",
            "leave alert_smtp_user out, or name another port (often 587)",
        )
    except (OSError, smtplib.SMTPException) as error:
        return _explained(address, error)
    return WELL


def _explained(address: str, error: Exception) -> Trouble:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message
        return (
            f"{address}: {what}",
            "have this machine trust its certificate, or name its right host",
        )
    if isinstance(error, ssl.SSLError):
        return f"{address} speaks no TLS there", "check the port, and whether it is http or https"
    if isinstance(error, socket.gaierror):
        return f"{address}: no such host", "check the name, and this machine's DNS"
    if isinstance(error, TimeoutError):
        return (
            f"{address} gave no answer within {TIMEOUT_S:.0f} s",
            "is it reachable from here, and does a firewall let the port through?",
        )
    if isinstance(error, ConnectionRefusedError):
        return f"{address} refuses connections", "does it run, and is this its port?"
    return f"{address}: {error}", "check that it runs, and its address in the profile"
