"""The audit's topic and table: a stream of the stack's own, whose table is `ops.audit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spark_streaming.streams.stream_contract import (
    AUDIT_TOPIC,
    Stream,
    StreamContract,
    read_contract,
)

PATH = "ops/audit"
_FILE = Path(__file__).resolve().with_name("audit.toml")


@dataclass(frozen=True)
class AuditStream(Stream):
    """The stream `ops.audit`; no stream file can have that name."""

    @property
    def path(self) -> str:
        """Return the table's path in the lake."""
        return PATH

    def topic(self, prefix: str) -> str:
        """Return the topic that Trino's event listener and verbs write."""
        return audit_topic(prefix)


def audit_topic(prefix: str) -> str:
    """Return the name of the audit's topic."""
    return f"{prefix}.{AUDIT_TOPIC}"


def audit_stream() -> AuditStream:
    """Read the audit's own contract."""
    return AuditStream("ops.audit", read_contract(_FILE, StreamContract))
