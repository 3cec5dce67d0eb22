# Quick answers while changing the code; `./headwater test` runs the real parts.
# `./headwater test --python` prints the locked environment's interpreter, making it if needed.
PYTHON = $(shell ./headwater test --python)

.PHONY: help check lint types unit lock

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /  /'

check: lint types unit ## everything that answers within a minute

lint: ## ruff: style and formatting
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: ## mypy, strict
	$(PYTHON) -m mypy

unit: ## unit tests, import rules among them
	$(PYTHON) -m pytest -q -n auto --dist worksteal tests/unit

lock: ## resolve the Python lock files again (needs uv on PATH)
	uv pip compile pyproject.toml --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/runtime.lock
	uv pip compile pyproject.toml --group dev --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/dev.lock \
	  -c requirements/runtime.lock
