"""Programs that read silver without Trino: rows, and a table's changes version by version."""
