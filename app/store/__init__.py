"""The demo source: a movie store in Postgres."""
