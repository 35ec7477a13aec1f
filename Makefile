# Everything you need to type. Each target is idempotent: what is done is not done again.
# ARGS are passed to the command behind a target:  make demo ARGS=--short   make test ARGS="-k hub"

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check
# Test processes that run at once; each one starts a JAX of its own.
JOBS ?= 2
# python3.11 where it runs (a version manager may only pretend to have it), else whatever python3 is.
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-parity lint format docs lock clean

help: ## list the targets
	@echo "make TARGET [ARGS=...]"
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

install: $(VENV)/installed ## create .venv with the exact packages of requirements.lock

# The stamp is written last, so an installation that was interrupted is continued. The build back end is one of the locked
# packages: with --no-build-isolation nothing is installed that the lock does not name.
$(VENV)/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "ecr_jax needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
		echo "Install Python 3.11, or name one that you have:  make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "==> $(VENV): $$($(PYTHON) --version), the packages of requirements.lock"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@$(PIP) check
	@touch $@

demo: install ## train and evaluate on the built-in corpus, show three replies (about ten minutes on two cores)
	@echo "==> ecr demo $(ARGS)"
	@$(BIN)/ecr demo $(ARGS)

test: install ## run the fast tests and the examples in docstrings and docs (within five minutes on two cores)
	@echo "==> fast tests"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-slow: install ## run the slow tests
	@echo "==> slow tests"
	@$(BIN)/python -m pytest -m "slow and not parity" $(ARGS)

test-parity: $(VENV)/installed-parity ## compare with torch, transformers and peft (installs them first)
	@echo "==> parity tests"
	@$(BIN)/python -m pytest -m parity $(ARGS)

# torch comes in a build for each kind of machine, so these packages are pinned without hashes.
$(VENV)/installed-parity: $(VENV)/installed constraints.txt
	@echo "==> $(VENV): torch, peft and accelerate, which only the parity tests import"
	@$(PIP) install --quiet --no-build-isolation -c constraints.txt -e '.[parity]'
	@touch $@

lint: install ## check format, style, types and import layers
	@echo "==> ruff format"
	@$(BIN)/ruff format --check --quiet .
	@echo "==> ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "==> import layers"
	@$(BIN)/lint-imports --no-logo
	@echo "==> types"
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: install ## format the code and fix what the style check can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: install ## build the documentation into build/docs; a warning is an error
	@echo "==> documentation"
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/docs $(ARGS)
	@echo "build/docs/index.html"

# Not after `install`, which a dependency that the lock does not name yet stops.
lock: ## renew requirements.lock from pyproject.toml (ARGS=--upgrade takes newer versions)
	@test -x $(BIN)/uv || $(MAKE) install
	@$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev \
		--no-annotate --custom-compile-command "make lock" --output-file requirements.lock $(ARGS) pyproject.toml

clean: ## remove the environment, caches and build outputs (prepared/ and runs/ hold your work and stay)
	@echo "==> removing $(VENV), build outputs and caches"
	@rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .jax_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
