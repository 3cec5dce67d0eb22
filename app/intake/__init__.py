"""Events by HTTP: the service that accepts them, a client, and the stack's own logs as events."""
