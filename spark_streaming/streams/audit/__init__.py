"""The audit: a record of queries to Trino, as the table `ops.audit`."""
