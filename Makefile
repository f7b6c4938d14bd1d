# Two commands matter: `make demo` and `make check`. Both make .venv first, from the lock files.

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter that runs and is new enough; give another one with `make check PYTHON=python3.13`.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then echo $$p; break; fi; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV ?= uv
LOCK := $(UV) pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock' --quiet
TYPED := src tests/typing
# Workers that end together, one more than CI's two cores, for a sixth of their time they wait; and where the time went.
PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal --durations=15
# Of a series of cases every sixth one, another one each time; CI looks at all, as DEPTH=1 does. See tests/depth.py.
export DEPTH ?= $(if $(filter 1 true,$(CI)),1,6)
# Tests start hundreds of interpreters: without compiled files each would compile all modules again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo serve check lint test test-fast mutation spark-jars bench soak docs format lock clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 12

demo: $(VENV)/.core ## run the pipeline on made-up vendor files and show what came of them
	$(BIN)/ordertrail demo
	@echo; echo "The same in a browser: make serve"

serve: $(VENV)/.web ## open the pages on the demo's tables; makes them when they are not there
	@test -f ordertrail-demo/ordertrail.toml || $(BIN)/ordertrail demo >/dev/null
	@$(BIN)/ordertrail serve --config ordertrail-demo/ordertrail.toml

check: lint test ## style, types, layers, then all tests; of a series of cases every sixth, with DEPTH=1 all, as in CI

lint: $(VENV)/.dev ## style, types and layers only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(TYPED)
	$(BIN)/lint-imports

test: lint spark-jars ## all tests, those with Spark last
	$(PYTEST) -m "not spark"
	$(PYTEST) -n 2 --dist load --maxschedchunk 1 --timeout 900 -m spark tests/spark tests/contract

test-fast: $(VENV)/.dev ## what to run all day: unit, property, contract on the embedded engine, docs
	$(PYTEST) -m "not slow and not spark" tests/unit tests/property tests/contract tests/docs

mutation: $(VENV)/.mutation ## put small faults into the code: does a test fail? ONLY=rules/outcomes.py for one module
	$(BIN)/python -m tests.mutation $(ONLY)

# Not a file of make's: the jars are looked at each time, by their checksums, and fetched only where Java is.
spark-jars: $(VENV)/.dev ## fetch what the tests with Spark need; without Java 17 they are skipped
	$(BIN)/python -m tests.spark.jars

bench: $(VENV)/.dev ## measure, against peers in the same run
	$(BIN)/python -m bench

soak: $(VENV)/.dev ## ten minutes of a service with three vendors and ten faults
	$(BIN)/python -m bench.soak

docs: $(VENV)/.dev ## write docs/reference again, from the code
	$(BIN)/python -m docs.generate

format: $(VENV)/.dev ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## write the lock files again (needs uv); pins stay unless UPGRADE=--upgrade
	$(LOCK) $(UPGRADE) --group build -o requirements.lock
	$(LOCK) $(UPGRADE) --group build --group dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) $(UPGRADE) --group build --extra web -c requirements-dev.lock -o requirements-web.lock
	$(LOCK) $(UPGRADE) --group mutation -c requirements-dev.lock -o requirements-mutation.lock

clean: ## remove the environment and all caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c '$(NEW_ENOUGH)'; then \
		echo "ordertrail needs Python 3.11 or newer$(if $(PYTHON),; $(PYTHON) is older or does not run)." >&2; \
		echo "Install one, or name it: make $(or $(MAKECMDGOALS),check) PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# A stamp is younger than its lock file once that has been installed: a second run installs nothing.
$(VENV)/.core: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.web: requirements-web.lock $(VENV)/.core
	$(PIP) install --require-hashes -r requirements-web.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.core
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.mutation: requirements-mutation.lock $(VENV)/.dev
	$(PIP) install --require-hashes -r requirements-mutation.lock
	@touch $@
