# Works with GNU make and with FreeBSD's. It needs Python 3.11 or newer, git and a package index; the rest it installs into .venv.
#
#   make run      a server on this machine; prints the first password
#   make test     everything that CI runs
#   make bench    measure, and write the table of docs/performance.md

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# Test processes; two cores are what CI has.
JOBS ?= 2
PYTEST_ARGS ?=

.PHONY: all setup run test packages lint format docs man bench clean

# The steps share one environment and two cores.
.NOTPARALLEL:

all: setup

setup: $(STAMP)

# Only a change of the project's own metadata makes the environment stale: the install is editable.
$(STAMP): pyproject.toml tests/packages.sh
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"sysadmd needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}; name another: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh tests/packages.sh venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fast,test,docs]'
	@touch $(STAMP)

# The server's defaults need no configuration file. The account is made once; its password is printed once.
run: setup
	@$(BIN)/sysadmd user add admin --role admin --generate --if-none
	@exec $(BIN)/sysadmd serve

# pytest comes last: its closing lines name every test that could not run, and why.
test: setup packages lint docs
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

packages:
	@sh tests/packages.sh system

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup man
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

# One page for each command, in docs/_build/man; `man -l docs/_build/man/sysadmd.1` reads one where it is.
man: setup
	PYTHONPATH=docs/_ext $(BIN)/python -m sysadmd_reference.man docs/_build/man

bench: setup
	$(BIN)/python -m tests.bench --write docs/performance.md

clean:
	rm -rf $(VENV) docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
