"""Service descriptions (`service.toml`) and the files rendered from them."""
