# The commands people type; `make help` lists them. Everything is installed into .venv, which belongs to this file.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON   ?= python3
PLATFORM ?= cpu
ARGS     ?=
CONFIG   ?= experiments/configs/$(if $(filter --csv%,$(ARGS)),table,m3t).py

VERSION     := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := constraints/python$(VERSION).txt
VENV        := .venv
BIN         := $(VENV)/bin
CREATED     := $(VENV)/.created-$(VERSION)
RUN         := $(VENV)/.run-$(PLATFORM)
DEV         := $(VENV)/.dev-$(PLATFORM)
INSTALL     := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c $(CONSTRAINTS)

.PHONY: help train study test lint format types hooks constraints clean

help:  ## list these commands
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

train: $(RUN)  ## train on CONFIG (default: the multi-modal model on real schools, or the table of ARGS=--csv=...); ARGS are passed on
	$(BIN)/python -m experiments.train --config=$(CONFIG) $(ARGS)

study: $(RUN)  ## five folds and three seeds of the eight studies; writes docs/k12.md
	$(BIN)/python -m experiments.folds --config=experiments/configs/study.py --seeds=3 --workdir=runs/k12
	{ printf '# Eight studies, thirteen tasks\n\nWritten by `make study`; not to be edited.\n\n'; cat runs/k12/report.md; } > docs/k12.md

test: lint types  ## lint, type check, then the whole test suite; ARGS are passed to pytest
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadgroup $(ARGS)

lint: $(DEV)  ## style and likely bugs
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .

format: $(DEV)  ## rewrite the files in the project's style
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

# A checker looks for packages on disk, where kernels/ is not yet inside fedjax_edu/: it gets a tree of links that is laid out as installed.
types: $(DEV)  ## static types
	rm -rf build/types && mkdir -p build/types/fedjax_edu
	ln -s $(CURDIR)/fedjax_edu/* $(CURDIR)/kernels build/types/fedjax_edu/
	ln -s $(CURDIR)/experiments build/types/
	cd build/types && $(CURDIR)/$(BIN)/mypy --config-file=$(CURDIR)/pyproject.toml --cache-dir=$(CURDIR)/.mypy_cache -p fedjax_edu -p experiments

hooks: $(DEV)  ## run `make format types` before every commit
	$(BIN)/pre-commit install

constraints: $(DEV)  ## resolve the pinned versions anew for every Python; PyTorch, which the extra `pretrained` installs, is not among them
	$(INSTALL) uv
	for file in constraints/python*.txt; do version=$${file#constraints/python}; \
	    $(BIN)/uv pip compile pyproject.toml $(addprefix --extra=,cpu cuda tpu data study tracking readers dev) --python-version=$${version%.txt} --python-platform=x86_64-manylinux_2_31 \
	        --no-annotate --no-header --upgrade --quiet --output-file=$$file; done

clean:  ## remove what the other commands made, .venv included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CONSTRAINTS):
	@echo "$(PYTHON) is Python $(VERSION), for which there is no $@; set PYTHON to another, for example PYTHON=python3.11" >&2; exit 1

$(CREATED):
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(RUN): pyproject.toml $(CONSTRAINTS) $(CREATED)
	@echo "installing into $(VENV): about a minute, once"
	$(INSTALL) setuptools
	$(INSTALL) --no-build-isolation --editable '.[$(PLATFORM),data,study]'
	touch $@

$(DEV): $(RUN)
	$(INSTALL) --no-build-isolation --editable '.[$(PLATFORM),data,study,readers,dev]'
	touch $@
