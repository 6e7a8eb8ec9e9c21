# A machine needs Python 3.10 or newer with venv, git and make; everything else goes into .venv.
#
#   make test ARGS="-k merging"      more arguments for the program that a target runs
#   make test PYTHON=python3.12      the interpreter to make .venv with (after `make clean`)

PYTHON ?= python3
ARGS ?=

VENV := .venv
ENGINES := .venv-engines
BIN := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-engines dev test coverage soak soak-runs soak-events bench engines recycling load lint types \
	docs wheel hooks clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/with-demo ## Run the demo: a server of several processes, and its page
	$(BIN)/python examples/demo.py $(ARGS)

demo-engines: $(VENV)/with-dynamo ## Run the demo of LLM engines: the page of a real Dynamo runtime
	$(BIN)/python examples/dynamo_page.py $(ARGS)

dev: $(VENV)/with-dev ## Install everything that the targets below need

test: $(VENV)/with-test ## Run the tests
	$(BIN)/pytest -n auto $(ARGS)

coverage: $(VENV)/with-test ## Run the tests, and check how much of the code they reach
	PYTHON=$(BIN)/python .ci/coverage -n auto $(ARGS)

SECONDS ?= 300
soak: $(VENV)/with-test ## Kill workers and compactors for SECONDS, twice, while readers look on
	MPMETRICS_SOAK=$(SECONDS) $(BIN)/pytest -s tests/compaction/test_under_fire.py $(ARGS)

soak-runs: $(VENV)/with-test ## Start, wipe and kill servers under `mpmetrics run` for SECONDS
	MPMETRICS_SOAK_RUNS=$(SECONDS) $(BIN)/pytest tests/supervisor/test_storm.py $(ARGS)

soak-events: SECONDS = 600
soak-events: $(VENV)/with-test ## Publish KV events for SECONDS while their broker is killed and restarted
	MPMETRICS_SOAK_EVENTS=$(SECONDS) $(BIN)/pytest -s tests/engines/events/test_soak.py $(ARGS)

bench: $(VENV)/with-test ## Run the benchmarks
	$(BIN)/python -m tests.benchmarks $(ARGS)

recycling: $(VENV)/with-test ## Recycle 10,000 workers, and time a scrape of what is left
	$(BIN)/python -m tests.benchmarks.recycling $(ARGS)

load: $(VENV)/with-test ## Scrape a live directory with 50 connections of wrk for a minute
	$(BIN)/python -m tests.benchmarks.load $(ARGS)

engines: $(ENGINES)/made ## Compare tables and behaviour with real vLLM, LMCache and Dynamo; downloads about 1 GB
	$(ENGINES)/bin/python -m tests.upstream $(ARGS)

lint: $(VENV)/with-dev ## Check style, formatting, layers and workflows
	$(BIN)/ruff check $(ARGS)
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

types: $(VENV)/with-dev ## Check types, by mypy and, for the public names, by pyright
	$(BIN)/mypy $(ARGS)
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/with-docs ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build --nitpicky --fail-on-warning --quiet $(ARGS) docs docs/_build/html

wheel: $(VENV)/with-test ## Build sdist and wheel into dist, and try the wheel
	rm -rf dist
	$(BIN)/python -m build --quiet --outdir dist
	MPMETRICS_WHEEL="$$(ls dist/*.whl)" $(BIN)/pytest tests/packaging $(ARGS)

hooks: $(VENV)/with-dev ## Have git check each commit (pre-commit)
	$(BIN)/pre-commit install

clean: ## Remove everything that was made
	rm -rf $(VENV) $(ENGINES) .venv-oldest .programs build dist docs/_build *.egg-info .coverage .coverage.* .hypothesis \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What each dependency group of pyproject.toml needs of the library's extras.
EXTRAS-demo := [serve]
EXTRAS-test := [nats,serve,zmq]
EXTRAS-dev := $(EXTRAS-test)

# The pip of an older Python does not know dependency groups (PEP 735): pip 25.1 does.
$(VENV)/pip: $(VENV)/made
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# A stamp is newer than pyproject.toml when what that asks for is installed.
$(VENV)/with-%: pyproject.toml $(VENV)/pip
	$(BIN)/pip install --quiet --editable '.$(EXTRAS-$*)' --group $*
	@touch $@

$(VENV)/with-dev: pyproject.toml $(VENV)/pip
	$(BIN)/pip install --quiet --editable '.$(EXTRAS-dev)' --group dev
	@touch $@ $(VENV)/with-demo $(VENV)/with-dynamo $(VENV)/with-test $(VENV)/with-docs

# The engines need a build of torch for the CPU; that for GPUs, which every index has, is several times as large.
TORCH ?= torch==2.13.0
$(ENGINES)/made: tests/upstream/requirements.txt tests/upstream/engines.txt
	$(PYTHON) -m venv --clear $(ENGINES)
	$(ENGINES)/bin/pip install --quiet '$(TORCH)+cpu' || $(ENGINES)/bin/pip install --quiet '$(TORCH)'
	$(ENGINES)/bin/pip install --quiet --requirement tests/upstream/requirements.txt
	$(ENGINES)/bin/pip install --quiet --no-deps --requirement tests/upstream/engines.txt
	$(ENGINES)/bin/pip install --quiet --editable .
	@touch $@

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
