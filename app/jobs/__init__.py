"""Jobs: what a data team runs on the lake at set hours; one TOML file each."""
