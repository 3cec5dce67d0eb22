# Quick answers while changing the code; `./headwater test` runs the real parts.
# `./headwater test --python` prints the locked environment's interpreter, making it if needed.
PYTHON = $(shell ./headwater test --python)

.PHONY: help check lint types imports unit lock screenshots reference docs

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /  /'

check: lint types imports unit ## everything that answers within a minute

lint: ## ruff: style and formatting
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: ## mypy, strict
	$(PYTHON) -m mypy

imports: ## which package may import which, and that no imports go in a circle
	PYTHONPATH=. $(dir $(PYTHON))lint-imports --no-cache

unit: ## unit tests, the project's own rules among them; fewer examples, and not those that take seconds
	HEADWATER_EXAMPLES=few $(PYTHON) -m pytest -q -n auto --dist worksteal -m "not unhurried" tests/unit

reference: ## write the pages of docs/reference from the code
	$(PYTHON) -m app.docs

docs: ## the documentation as a site in build/site, strictly: no link leads nowhere
	$(PYTHON) -m app.docs build build/site
	@echo "open build/site/index.html; with search: python3 -m http.server -b 127.0.0.1 -d build/site"

screenshots: ## pictures of each dashboard, on a stack of their own; the page's: ./headwater screenshots
	HEADWATER_SCREENSHOTS=superset/screenshots \
	  $(PYTHON) -m pytest -q tests/e2e/test_superset_in_a_browser.py

lock: ## resolve the Python lock files again (needs uv on PATH)
	uv pip compile pyproject.toml --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/runtime.lock
	uv pip compile pyproject.toml --group dev --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/dev.lock \
	  -c requirements/runtime.lock
	uv pip compile superset/requirements.in --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --no-strip-extras -q \
	  -o superset/requirements.lock  # pip refuses a hashed lock that has lost an extra
	uv pip compile app/jobs/dagster/requirements.in --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o app/jobs/dagster/requirements.lock
	uv pip compile app/notebooks/requirements.in --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o app/notebooks/requirements.lock \
	  -c requirements/runtime.lock
	uv pip compile app/models/tracking/requirements.in --universal --python-version 3.10 \
	  --fork-strategy fewest --generate-hashes --no-emit-index-url --no-header --no-annotate -q \
	  -o app/models/tracking/requirements.lock
	uv pip compile tests/bench/peers/requirements.in --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o tests/bench/peers/requirements.lock \
	  -c requirements/runtime.lock
	uv pip compile --group docs --universal --python-version 3.10 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/docs.lock
