"""What is shown and what alarms: expressions, panels and alerts, and their files under `grafana/`."""
