"""Reads the lake directly: Delta tables, objects and topics, without Trino."""
