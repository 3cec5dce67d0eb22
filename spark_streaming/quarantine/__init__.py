"""Quarantine: events that broke their contract, kept with the reason until they are resolved."""
