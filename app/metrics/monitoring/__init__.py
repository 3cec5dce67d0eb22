"""Dashboards and alerts as code: expressions, panels, alerts, and their files under `grafana/`."""
