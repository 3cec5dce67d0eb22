"""Trino's catalog: the registrar, the views, and what a schema change would do to them."""
