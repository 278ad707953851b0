# The commands of the repository. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEVICE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
LOCKS := requirements/$(DEVICE).txt requirements/dev.txt
STAMP := $(VENV)/.installed-$(DEVICE)
SLOW ?= not slow

.PHONY: setup demo test lint bench serve clean

setup: $(STAMP)

# The stamp is younger than every file that decides what is installed.
$(STAMP): $(LOCKS) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "cai needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(addprefix -r ,$(LOCKS))
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/cai demo

serve: setup
	$(BIN)/cai serve --engine sandbox

test: setup
	$(BIN)/python -m pytest -m "$(SLOW)"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py
	$(BIN)/python requirements/audit.py

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .hypothesis
