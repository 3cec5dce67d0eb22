"""Trino's catalog: the registrar, the views, and the effects of schema changes on them."""
