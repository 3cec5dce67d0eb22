"""Change events into correct tables: the streaming job and the library that it is made of."""
