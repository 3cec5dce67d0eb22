"""Dashboards as code: the files of `superset/assets/`, in and out of a running Superset."""
