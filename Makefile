# make demo       the whole pipeline on this machine, against a local GitHub that serves this checkout
# make test       every test; those that need a Docker engine are skipped where none answers
# make test-full  the same with every round of the faults, and on Kafka too at SENTINEL_TEST_KAFKA=HOST:PORT
# make test-train the tests that train: recipe smoke from data to judged weights; needs torch (README)
# make check      format, lint, types, import contracts, generated code

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO_ARGS ?=
RUNTIME ?=
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-full test-train check format proto clean

help:
	@sed -n 's/^# //p' Makefile | sed -n '1,5p'

$(VENV)/.base: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Sentinel needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

demo: $(VENV)/.base
	$(BIN)/sentinelctl demo $(if $(RUNTIME),--runtime $(RUNTIME)) $(DEMO_ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-full: export SENTINEL_TEST_FULL = 1
test-full: export SENTINEL_TEST_REPORT ?= build/faults.json
test-full: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-train: $(VENV)/.dev
	@$(BIN)/python -c 'import torch, safetensors' || { echo "make test-train needs torch: \
	$(BIN)/python -m pip install torch 'safetensors>=0.5' (on Linux with --index-url https://download.pytorch.org/whl/cpu, without CUDA)"; exit 3; }
	$(BIN)/python -m pytest tests/model -m train $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	PYTHON=$(abspath $(BIN)/python) sh proto/generate.sh --check

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(VENV)/.dev
	PYTHON=$(abspath $(BIN)/python) sh proto/generate.sh

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
