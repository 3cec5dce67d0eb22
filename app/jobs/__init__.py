"""Jobs: a data team's scheduled work on the lake; one TOML file for each job."""
