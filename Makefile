# Everything a newcomer types. Each target is idempotent: done work is not done again.
# ARGS go to the command behind the target:  make demo ARGS=--short   make test ARGS="-k hub"

VENV := .venv
BIN  := $(VENV)/bin
# Test processes at once; each one is a JAX of its own.
JOBS ?= 2
# python3.11 where it runs (a version manager may only pretend to have it), else whatever python3 is.
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-parity lint clean

help: ## say what can be made
	@echo "make TARGET [ARGS=...]"
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

install: $(VENV)/installed ## a virtual environment in .venv with everything this was tested on

# The stamp is touched last, so an installation that was cut off is taken up again.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "ecr_jax needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
		echo "Install Python 3.11, or name one that you have:  make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "==> $(VENV): $$($(PYTHON) --version), packages of pyproject.toml at the versions of constraints.txt"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install ## the main job: built-in corpus, five stages, report, three replies (about ten minutes on two cores)
	@echo "==> ecr demo $(ARGS)"
	@$(BIN)/ecr demo $(ARGS)

test: install ## the tests that take seconds each (within five minutes on two cores)
	@echo "==> tests that are not slow"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-slow: install ## the slow tests
	@echo "==> slow tests"
	@$(BIN)/python -m pytest -m "slow and not parity" $(ARGS)

test-parity: $(VENV)/installed-parity ## compare with torch, transformers and peft as they run (installs them)
	@echo "==> parity tests"
	@$(BIN)/python -m pytest -m parity $(ARGS)

$(VENV)/installed-parity: $(VENV)/installed
	@echo "==> $(VENV): torch and peft, only to compare with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,parity]'
	@touch $@

lint: install ## ruff over everything
	@echo "==> ruff"
	@$(BIN)/ruff check $(ARGS) .

clean: ## remove the environment, caches and build leftovers (prepared/ and runs/ are kept: they are your work)
	@echo "==> removing $(VENV) and caches"
	@rm -rf $(VENV) build dist .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
