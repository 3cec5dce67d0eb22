"""Kafka Connect: registers the connectors and reads their state."""
