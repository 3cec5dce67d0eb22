"""Says where the lake is: addresses, credentials, limits of connections."""
