"""The audit: who asked Trino what, as the table `ops.audit`."""
