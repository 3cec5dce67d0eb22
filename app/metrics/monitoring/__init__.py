"""Dashboards, rules and runbook, made from `app.metrics.declarations`."""
