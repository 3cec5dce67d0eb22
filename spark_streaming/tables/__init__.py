"""Silver's Delta tables: names, owners, and one handle a table."""
