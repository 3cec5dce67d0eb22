"""Proves that silver equals the source and that bronze is complete."""
