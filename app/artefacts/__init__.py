"""Programs and packages: downloaded, checked, unpacked, compiled, cached."""
