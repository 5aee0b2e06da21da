# Two commands on a fresh machine: `make demo`, `make test`.

PYTHON ?= python3
VENV ?= .venv
# Any version that pyproject.toml allows will do. On Linux, PyPI has builds for CUDA, of gigabytes; for the CPU, set
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
RUNTIME_TESTS := tests/engine tests/kernels tests/test_architecture.py
SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --durations=15
FAST := not slow and not long and not gpu
SLOW := slow and not long and not gpu

.PHONY: demo test test-runtime test-slow test-long lint format clean

demo: $(VENV)/.runtime
	$(BIN)/pnp-ovss demo

test: $(VENV)/.test
	$(PYTEST) --numprocesses auto --dist worksteal -m "$(FAST) and not timing"
	$(PYTEST) -m "$(FAST) and timing"

# What runs without PyTorch and pydensecrf2, on any Python that pyproject.toml allows:
# make test-runtime PYTHON=python3.13 VENV=.venv-3.13
test-runtime: $(VENV)/.test-runtime
	$(BIN)/pnp-ovss demo
	$(PYTEST) --numprocesses auto --dist worksteal -m "$(FAST) and not timing" $(RUNTIME_TESTS)

test-slow: $(VENV)/.test
	$(PYTEST) --numprocesses auto --maxprocesses 2 --dist worksteal -m "$(SLOW) and not timing"
	$(PYTEST) -m "$(SLOW) and timing"

test-long: $(VENV)/.test
	$(PYTEST) -m long -s

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH="$(CURDIR)/.pyright" \
		$(BIN)/pyright --verifytypes pnp_ovss.engine --ignoreexternal
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*))
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/python -m pip check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(BIN)/python pyproject.toml $(wildcard kernels/cpu/*)
	$(INSTALL) --editable ".[cpu]"
	touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(INSTALL) "$(TORCH)" --editable ".[cpu,crf,evaluate,export,interop,test]"
	touch $@

$(VENV)/.test-runtime: $(VENV)/.runtime
	$(INSTALL) --editable ".[cpu,evaluate,interop,test-runtime]"
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(INSTALL) --editable ".[dev]"
	touch $@
