"""The documentation's generated half, and the site: reference pages from the code, MkDocs' hook and build."""
