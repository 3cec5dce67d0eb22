"""The exporter's collectors, one for each part of the stack."""
