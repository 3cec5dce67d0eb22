"""Where the lake is: addresses, credentials, limits of connections."""
