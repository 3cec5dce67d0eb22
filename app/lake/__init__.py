"""The lake as Trino serves it: asking it, keeping its catalog in step, proving and watching it."""
