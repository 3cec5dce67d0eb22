"""Everything around the streaming job: the command line, the launcher, and the services."""
