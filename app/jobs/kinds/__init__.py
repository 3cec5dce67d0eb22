"""The programs that run tasks of the kinds `sql`, `spark` and `notebook`."""
