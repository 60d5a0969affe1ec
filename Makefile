# make demo | test | check | bench | faults: each sets up what it needs in .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test check bench faults clean

demo: .venv/.installed
	rm -rf demo
	$(BIN)/sftprep demo -o demo

test: .venv/.dev strace
	$(BIN)/python -m pytest -n auto --dist loadfile

check: .venv/.dev strace
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile

bench: .venv/.bench
	$(BIN)/python tests/benchmarks/bench.py

faults: .venv/.dev strace
	SFTPREP_FAULTS=full $(BIN)/python -m pytest tests/test_faults.py -n auto --dist loadfile

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[dev,torch]"
	touch $@ .venv/.installed

.venv/.bench: .venv/.dev
	$(BIN)/python -m pip install --quiet --editable ".[dev,torch,bench]"
	touch $@

# fault tests use strace; where it cannot be installed they are skipped and say so
.PHONY: strace
strace:
	@command -v strace >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq strace; } >/dev/null 2>&1 || true

clean:
	rm -rf .venv demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
