# make demo | test | check | bench | faults | fuzz | docs | release: each sets up what it needs in .venv, in the versions of CONSTRAINTS.
# make bench-reader: the reader beside its peers, which are installed in .venv-bench: their requirements contradict each other
# make test-newest: the tests with the newest versions of all but torch, in .venv-newest
PYTHON ?= python3
EXAMPLES ?= 20000
TORCH ?= torch==2.13.0
VENV := .venv
CONSTRAINTS := tests/constraints.txt
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS)
INSTALL_SFTPREP = $(INSTALL) --no-build-isolation --editable

.PHONY: demo test test-newest check bench bench-reader faults fuzz docs release machine clean

demo: $(VENV)/.installed
	rm -rf demo
	$(BIN)/sftprep demo -o demo

test: $(VENV)/.dev machine
	$(BIN)/python -m pytest -n auto --dist loadfile

test-newest:
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=/dev/null

check: $(VENV)/.dev machine
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile

bench: $(VENV)/.dev
	$(BIN)/python tests/benchmarks/bench.py

READERS := pyarrow datasets litdata mosaicml-streaming grain megatron-core
bench-reader:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet "$(TORCH)" numpy
	for each in $(READERS); do .venv-bench/bin/python -m pip install --quiet $$each || echo "$$each is left out"; done
	.venv-bench/bin/python tests/benchmarks/bench_reader.py

faults: $(VENV)/.dev machine
	SFTPREP_FAULTS=full $(BIN)/python -m pytest tests/whole/test_faults.py -n auto --dist loadfile

fuzz: $(VENV)/.dev
	SFTPREP_FUZZ=$(EXAMPLES) $(BIN)/python -m pytest tests/records tests/test_exact_json.py tests/test_unread.py -n auto -k "damaged or written or odd"

# the reference of commands and the site, in site/
docs: $(VENV)/.installed
	$(INSTALL_SFTPREP) ".[docs]"
	PYTHONPATH=tests $(BIN)/python tests/command_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# source and wheel, in dist/; the wheel is tried alone in a fresh environment, without torch, outside of the clone
BARE := $(CURDIR)/.venv-bare
release: $(VENV)/.installed
	$(INSTALL) build
	rm -rf dist $(BARE)
	$(BIN)/python -m build --no-isolation
	$(PYTHON) -m venv $(BARE)
	$(BARE)/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) dist/*.whl
	cd $(BARE) && bin/python -I $(CURDIR)/tests/bare.py
	@ls -l dist

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip hatchling editables
	$(INSTALL_SFTPREP) .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(INSTALL) "$(TORCH)"
	$(INSTALL_SFTPREP) ".[dev,torch,peers]"
	touch $@

# the fault tests use strace and those of the report page Chromium: all that is ever installed outside this folder, and only by root
MISSING = $(strip $(foreach each,strace chromium,$(if $(shell command -v $(each)),,$(each))))
APT = apt-get update -qq && apt-get install -y -qq --no-install-recommends $(MISSING) >/dev/null
machine:
	@if [ -z "$(MISSING)" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Some tests need $(MISSING), so this is run, which installs that on the machine: $(APT)"; \
		{ $(APT); } || echo "$(MISSING) cannot be installed: the tests that use it are skipped"; \
	else echo "not installed: $(MISSING); the tests that use it are skipped"; fi

clean:
	rm -rf .venv .venv-newest .venv-bare .venv-bench demo build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
