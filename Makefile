# Every target sets up .venv by itself, once per change of pyproject.toml or constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: demo test lint format bench metrics reference
.DELETE_ON_ERROR:

demo: $(READY)
	@$(BIN)/gate demo

test: $(READY)
	@$(BIN)/python -m pytest

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Against public packages, which get an environment of their own under ~/.cache; `make bench SIZES="S M L XL"` for more.
SIZES ?= S
bench: $(READY)
	@$(BIN)/python -m benchmarks.speed $(SIZES)

# What is rendered from the code: the list of metrics that is read without torch, the references of metrics, policies and
# server policies, and the JSON Schema of a policy.
reference: $(READY)
	@$(BIN)/python -m gate.geometry.catalogue
	@$(BIN)/python docs/make_metrics.py
	@$(BIN)/python -m docs.make_policy
	@$(BIN)/python -m docs.make_server

metrics: reference

format: $(READY)
	@$(BIN)/ruff check --fix --exit-zero .
	@$(BIN)/ruff format .

# torch goes first and by its exact version: left to the resolver it brings gigabytes of CUDA libraries that nothing here needs.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); name another one: make PYTHON=python3.11" >&2; exit 1; }
	@echo "setting up .venv with the versions of constraints.txt (a few minutes, once) ..." >&2
	@$(PYTHON) -m venv .venv || { echo "error: $(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(INSTALL) "$$(grep '^torch==' constraints.txt)" || { echo "error: the torch of constraints.txt could not be installed; see pip's message above" >&2; exit 1; }
	@$(INSTALL) -c constraints.txt -e '.[dev]' || { echo "error: the dependencies could not be installed; see pip's message above" >&2; exit 1; }
	@touch $@
