"""Folding: many changes of a row in one batch become one."""
