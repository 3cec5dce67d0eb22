"""The tables of schema `ops`, requests to the job, and its metrics."""
