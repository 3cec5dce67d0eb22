"""SQL on Trino: the connection, one statement, its answer."""
