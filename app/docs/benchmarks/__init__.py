"""The page of benchmarks, and its pictures, from their reports."""
