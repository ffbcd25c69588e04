# make demo and make test set up everything they need: a virtual environment below .venv, nothing global.
PYTHON ?= python3
UV_VERSION := 0.13.8
# Tests on all cores, the files of tests shared out whole: what a file plans or computes once serves all its tests.
IN_PARALLEL := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
VENV := .venv
RUN := $(VENV)/bin

export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_LINK_MODE := copy

.PHONY: demo test test-all lint validate setup clean

setup: .make/ready

.make/ready: pyproject.toml uv.lock
	@mkdir -p .make
	@test -x .make/uv/bin/uv || ($(PYTHON) -m venv .make/uv && .make/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION))
	@.make/uv/bin/uv sync --quiet --locked --compile-bytecode --system-certs --no-python-downloads --python $$($(PYTHON) -c 'import sys; print(sys.executable)')
	@$(RUN)/python -m compileall -q src/cantlie
	@touch $@

demo: setup
	@$(RUN)/cantlie demo

lint: setup
	$(RUN)/ruff format --check src tests benchmarks
	$(RUN)/ruff check src tests benchmarks
	$(RUN)/mypy
	$(RUN)/lint-imports

test: lint
	$(RUN)/pytest $(IN_PARALLEL)

test-all: lint
	$(RUN)/pytest $(IN_PARALLEL) -m ""

validate: setup
	$(RUN)/python benchmarks/validate.py

clean:
	rm -rf $(VENV) .make runs
