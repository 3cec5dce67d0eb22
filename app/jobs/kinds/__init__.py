"""What tasks of the kinds `sql` and `spark` run."""
