# Everything builds its own virtual environment first; nothing needs to be done before.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0

.PHONY: help setup demo test test-fast lint format bench clean

help:
	@echo "make setup      virtual environment in .venv, pinned"
	@echo "make demo       the main job end to end, into runs/demo (SEED=1 for another seed)"
	@echo "make test       all tests; make test-fast the quick ones"
	@echo "make lint       ruff and mypy; make format mends what it can"
	@echo "make bench      the benchmarks in a short form, into docs/benchmarks.md"

setup: $(VENV)/.installed

$(VENV)/.installed: setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "setup: installing pinned packages into $(VENV) (about 2.7 GB, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --no-compile \
		-c constraints.txt -e '.[test,lint]'
	@$(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true # on all cores; some templates are no Python
	@$(BIN)/python -m pipeline.precompile
	@touch $@

demo: setup
	@$(BIN)/python -m pipeline.demo --seed $(SEED)

# Side by side; slow ones of one file share what they prepare.
test: test-fast
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder --durations=30

test-fast: setup
	@$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup
	@$(BIN)/python benchmarks/all.py

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
