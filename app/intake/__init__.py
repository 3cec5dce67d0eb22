"""Logs and messages by API: the service that takes them, a client, and the stack's own logs."""
