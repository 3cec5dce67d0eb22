"""Predicts what a customer may do: leave, or leave a bill unpaid."""
