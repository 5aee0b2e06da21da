# Two commands on a fresh machine: `make demo`, `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A version of which a CPU build may lie in a local index; any that pyproject.toml allows will do.
TORCH ?= torch==2.13.0

.PHONY: demo test test-slow lint format clean

demo: $(VENV)/.runtime
	$(BIN)/pnp-ovss demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m "slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pip check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Strict editable installs link every file, so that type checkers and PyTorch's tools see the
# packages where they are imported from.
SOURCES := pyproject.toml $(shell find engine export kernels -not -name '*.pyc' -type f)
INSTALL := $(BIN)/python -m pip install --quiet --config-settings editable_mode=strict

$(VENV)/.runtime: $(BIN)/python pyproject.toml
	$(INSTALL) --editable ".[cpu,crf]"
	touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(INSTALL) "$(TORCH)" --editable ".[cpu,crf,export,interop,test]"
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(INSTALL) --editable ".[dev]"
	touch $@
