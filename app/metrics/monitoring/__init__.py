"""Dashboards, rules and runbook, made from what `app.metrics.declarations` declares."""
