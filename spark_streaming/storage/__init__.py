"""The lake's addresses and credentials, and the time limits of connections."""
