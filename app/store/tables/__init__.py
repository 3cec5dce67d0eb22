"""The movie store's tables, its role and its first rows."""
