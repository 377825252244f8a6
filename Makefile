# make demo    the story, told in the terminal by real processes (under a minute)
# make demo-web  a page with a form, a bar and a table, on http://127.0.0.1:8000/
# make test    every test, in parallel; what is not installed skips its tests and is named at the
#              end, or fails under CI=true.  PYTEST_ARGS="tests/web -k tokens" names some;
#              PARALLEL= runs them in one process
# make lint    ruff, mypy, import-linter
# make docs    the site, in docs/_build; a warning is a failure
# make dist    wheel and sdist, in dist
# make client  join the modules of the browser client into the file that pages load (needs node)
# make bench   what it costs, beside a bare apply_async; how far estimates are off, beside peers'
# make model   explores more interleavings of the claim protocol: FAULTS=2 faults at once, PART=1/1
# make chaos   harms real workers and stores: SECONDS=120 SEED=1
# make soak    ten minutes at full rate: does anything grow?
# make clean   remove what the above made
#
# Needs python3 (3.10 or newer) and a package index.  PYTHON=… picks another interpreter.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/ready
PYTEST_ARGS ?=
PARALLEL ?= -n auto
SECONDS ?= 120
SEED ?= 1
FAULTS ?= 2
PART ?= 1/1
SOAK ?= 600

# What is imported is compiled once, not by each of the thousand processes that tests start.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo demo-web test lint docs dist client bench model chaos soak clean

demo: $(READY)
	$(BIN)/python -m jobtastic_ext.demo

demo-web: $(READY)
	$(BIN)/python config_examples/flask_app/start.py

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/docs-ready
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build
	@echo "docs/_build/index.html"

$(VENV)/docs-ready: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

dist: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build --outdir dist .

CLIENT = jobtastic_ext/static/jobtastic_ext/jobtastic.js
client:
	node client/pack.mjs >$(CLIENT).new
	mv $(CLIENT).new $(CLIENT)

bench: $(READY)
	$(BIN)/python -m benchmarks

model: $(READY)
	$(BIN)/python -m tests.model --faults $(FAULTS) --part $(PART)

chaos: $(READY)
	$(BIN)/python -W ignore -m tests.chaos --seconds $(SECONDS) --seed $(SEED)

soak: $(READY)
	$(BIN)/python -W ignore -m tests.soak --seconds $(SOAK)

# Made anew only when what is installed may have changed.
$(READY): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "jobtastic_ext needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1)."; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,demo,bench]'
	@touch $@

clean:
	rm -rf $(VENV) .tox .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf build dist docs/_build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
