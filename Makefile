# `make` lists the recipes. Each of them builds the virtual environment first, if it is not there yet.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CRM := examples/education_crm

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check fmt bench clean

help: ## List the recipes
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Import 10,000 leads and join a recording with the Education CRM
	@cd $(CRM) && $(abspath $(BIN))/python -m education_crm demo

test: $(READY) ## Run all tests, on SQLite and on a PostgreSQL that they start themselves
	@$(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)

check: $(READY) ## Check format, lint, types and the floors, as CI does
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@MYPYPATH=$(CRM) $(BIN)/mypy --package education_crm
	@$(BIN)/lint-imports

fmt: $(READY) ## Format the code and mend what can be mended by itself
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench: $(READY) ## Measure beside other job systems: QUICK=1 under three minutes, FULL=1 under an hour
	@$(BIN)/python -m bench --scale $(if $(QUICK),quick,$(if $(FULL),full,default)) $(ARGS)

clean: ## Remove the virtual environment and all caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache $(CRM)/.pytest_cache $(CRM)/.ruff_cache .bench

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Staffa needs Python 3.11 or newer, but $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>/dev/null || echo missing): run make PYTHON=python3.12, or whatever yours is called" >&2; \
	  exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "$(PYTHON) could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; }
	@echo "Installing Staffa and what it is developed with into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
