# One obvious command each; `make` alone lists them. Everything sets itself up in $(VENV).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BENCH ?= all
BENCH_ARGS ?= --runs 3
PYTEST_ARGS ?=
# One worker alone leaves a core idle, or waits for processes. Folders stay together (tests/workers.py).
WORKERS := -n 2 --dist loadscope --no-loadscope-reorder

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help run test test-long check format bench venv clean

help: ## List the targets
	@echo 'Usage: make TARGET'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(INSTALLED) ## Set up and start the demo exchange in the foreground; Ctrl-C stops it
	@exec $(BIN)/cambist up --demo

test: $(INSTALLED) ## Run the tests (PYTEST_ARGS='-k name' narrows them, '-n 0' uses one core)
	@$(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS)

test-long: $(INSTALLED) ## Run all tests, those that take minutes too
	@$(BIN)/python -m pytest $(WORKERS) --run-long $(PYTEST_ARGS)

check: $(INSTALLED) ## Lint, formatting, types, direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Format the sources and mend what ruff can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: $(INSTALLED) ## Run the benchmarks (BENCH='ring matcher' chooses them, BENCH_ARGS='--runs 5' how)
	@$(BIN)/cambist bench $(BENCH_ARGS) $(BENCH)

venv: $(INSTALLED) ## Create or update the virtual environment only

clean: ## Remove the virtual environment, caches and build output; homes under ./var stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks .coverage htmlcov
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# pip tells of each package on a line of its own, so that a slow link can be told from a hang; errors go to stderr untouched.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed: install python3 and python3-venv.' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found; name another one with PYTHON=…" >&2; exit 1; }
	@echo 'Setting up $(VENV) (once; later starts skip this) …'
	@$(PYTHON) -m venv $(VENV) || { echo 'The venv module is incomplete: install python3-venv.' >&2; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[dev]' \
	  | sed -unE 's/^Collecting ([A-Za-z0-9._-]+).*/  \1/p; s/^Installing collected packages.*/Installing …/p'
	@touch $@
	@echo 'Ready: $(BIN)/cambist'
