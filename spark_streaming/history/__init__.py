"""Keeps the history of tables: `lake.history.<table>`, one row for each version of a row."""
