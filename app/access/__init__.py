"""Who may ask Trino, in which role, and what each role sees: from `access.toml` and columns' classes to Trino's rules."""
