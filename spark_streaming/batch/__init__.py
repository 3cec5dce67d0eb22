"""The micro-batch: runner, recovery of stopped tables, replay, rebuild, maintenance."""
