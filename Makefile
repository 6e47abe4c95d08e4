# make demo    from a clone to a verified, queried archive
# make test    lint, types, and the suite against real parts
# make soak    the long searches, for SOAK_MINUTES
# make bench   the tables of docs/performance.md
# make docs    the pages that are made from the code
# make notebooks  strip the notebooks, run them, render docs/notebooks

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOAK_MINUTES ?= 120
BENCH_DAYS ?= 5 50 250
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint suite soak bench docs notebooks services clean

demo: $(VENV)/.installed
	@$(BIN)/archiver demo

test: services $(VENV)/.installed-test lint suite

suite: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

soak: services $(VENV)/.installed-test
	SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/python -m tests.soak

# Takes hours: 1 M, 10 M and 50 M events locally, 5 M on an S3 server. Each line can be called alone.
bench: services $(VENV)/.installed-test
	$(BIN)/python -m tests.bench.bench $(BENCH_ARGS)
	$(BIN)/python -m tests.bench.bench_index
	$(BIN)/python -m tests.bench.bench_ledger
	$(BIN)/python -m tests.bench.bench_query --s3
	$(BIN)/python -m tests.bench.bench_receive
	$(BIN)/python -m tests.bench.bench_database
	$(BIN)/python -m tests.bench.bench_forward
	for days in $(BENCH_DAYS); do $(BIN)/python -m tests.bench.years --days $$days || exit 1; done
	$(BIN)/python -m tests.bench.requests
	$(BIN)/python -m tests.bench.years --s3 --days 25

docs: $(VENV)/.installed
	$(BIN)/python -m archiver.query.reference > docs/queries.md.new
	mv docs/queries.md.new docs/queries.md

notebooks: $(VENV)/.installed-test
	$(BIN)/python -m tests.notebooks

services:
	@bash .ci/install-services

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml .ci/constraints.txt $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml .ci/constraints.txt $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[test]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
