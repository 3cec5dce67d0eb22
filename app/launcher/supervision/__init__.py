"""Which services run, wait, restart, or have failed: a state machine that reaches clock and processes through arguments only."""
