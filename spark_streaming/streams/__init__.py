"""Streams: events sent by API into append-only silver tables."""
