"""Decides how silver treats a table's changes, by the policies of its contract file."""

from __future__ import annotations

from collections.abc import Callable

from spark_streaming.contract.contract_files import ContractFileError, Evolution
from spark_streaming.contract.evolution import (
    EVOLVE,
    NEW_VERSION,
    policy_of,
    strictest,
)
from spark_streaming.ops.stopped import TableStoppedError, stop_table
from spark_streaming.schema.definitions import Pending
from spark_streaming.schema.topic import Topic

# Gives the policies in the contract file of (schema, table).
Policies = Callable[[str, str], Evolution]


def default_policies(schema: str, table: str) -> Evolution:
    """The policies of a table whose contract file sets none."""
    del schema, table
    return Evolution()


class ChangePolicies:
    """The policies of each table; a contract file that is wrong stops its table."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    def of_kind(self, topic: Topic, kind: str) -> str:
        """The policy for one kind of change. Raises: TableStoppedError."""
        return policy_of(self._evolution(topic), kind)

    def of(self, topic: Topic, pending: Pending) -> str:
        """The strictest policy of a pending change. Raises: TableStoppedError."""
        return strictest(self.of_kind(topic, change.kind) for change in pending.changes)

    def of_drop(self, topic: Topic) -> str:
        """The policy for a table that the source dropped."""
        try:
            return self.of_kind(topic, "table_dropped")
        except TableStoppedError:
            return EVOLVE  # its file is wrong, but no events would wait for a correction

    def how(self, topic: Topic, pending: Pending) -> str | None:
        """The policy that lets silver follow a change now; None if the change has to wait."""
        policy = None if pending.contract.refusal else self.of(topic, pending)
        return policy if policy in (EVOLVE, NEW_VERSION) else None

    def reason(self, topic: Topic, pending: Pending) -> tuple[str, str]:
        """The kind of change whose policy is the strictest, and why silver does not follow."""
        policies = [(self.of_kind(topic, change.kind), change) for change in pending.changes]
        strict = strictest(policy for policy, _ in policies)
        those = [change for policy, change in policies if policy == strict]
        detail = "; ".join(f"{change.kind}: {change.detail}" for change in those)
        return those[0].kind, f"the table changed ({detail}), and the policy for that is {strict}"

    def failure(self, topic: Topic, pending: Pending) -> tuple[str, str]:
        """Why the table stops at a change, and what to do."""
        if pending.contract.refusal:
            reason, _, hint = pending.contract.refusal.partition("\nhint: ")
            return reason, hint
        kind, reason = self.reason(topic, pending)
        return reason, (
            f"set `{kind}` under [evolution] in its contract file to another policy, or undo the "
            "change in the source; the table then continues where it stopped"
        )

    def _evolution(self, topic: Topic) -> Evolution:
        try:
            return self._policies(*topic.source)
        except ContractFileError as error:
            stop_table(f"its contract file is wrong\n{error}")
