"""Tables of the lake for applications, in the serving database."""
