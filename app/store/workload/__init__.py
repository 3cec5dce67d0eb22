"""The store's business transactions, at a set rate."""
