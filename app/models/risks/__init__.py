"""Predicts whether a customer leaves, or leaves a bill unpaid."""
