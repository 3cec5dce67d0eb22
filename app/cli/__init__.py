"""The command line: verbs in, tables and one clear error out."""
