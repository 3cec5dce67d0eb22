"""Access control in Trino: people, roles and the data that each role sees, from `access.toml` and columns' classes to
Trino's rules."""
