"""Logs and messages by API: topics that no database captures, into append-only silver tables."""
