# `make demo` runs the main job, `make test` checks everything; both set up what they need, once.
SHELL := /bin/bash
PYTHON ?= python3.11
MODEL ?= small
LIMIT ?=
BIN := .venv/bin
UV := $(BIN)/uv
# torch's CPU build is not on the package index: from a folder of wheels if one is named, else from its own index
TORCH := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend cpu)
COMPILE = $(UV) pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header
WEIGHTS := tiny small minilm movielens-100k groceries books
# Tests write thousands of small files: into memory where 4 GB of it are free for that
SCRATCH = $(shell df --output=avail /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 4e6 { print "/dev/shm" }')
CLIENTS := cohere openai3 litellm langchain llama-index

.DEFAULT_GOAL := help
.PHONY: help setup pulled-tiny demo test up lint bench bench-rank bench-domains bench-groceries bench-books bench-history bench-scale verify clients $(CLIENTS:%=clients-%) lock clean

help:  ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: .stamps/dev  ## .venv with everything, hash-locked

.stamps/dev: requirements/dev.lock pyproject.toml
	@mkdir -p .stamps
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || python3 -m venv .venv
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(UV) pip install --python $(BIN)/python --no-deps --require-hashes $(TORCH) -r requirements/dev.lock
	$(UV) pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## Films ranked and justified for three people, on a real model (MODEL=tiny for the small one)
	$(BIN)/whyrank demo --model $(MODEL)

up: setup  ## Engine and service together; Ctrl-C stops both
	$(BIN)/whyrank up

lint: setup  ## Style, types and the laws of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup lint clients-cohere pulled-tiny  ## Linters, types and all tests, one of them against a real vLLM serving `tiny`
	$(addprefix TMPDIR=,$(SCRATCH)) $(BIN)/pytest -n 2 --dist loadfile

# What tests need is made side by side
ifeq ($(MAKECMDGOALS),test)
MAKEFLAGS += --jobs=3
endif

# Beside other output a progress bar would be written over: `cat` takes none
pulled-tiny: setup
	@set -o pipefail; $(BIN)/whyrank models pull tiny | cat

bench: setup  ## The service's own time around the model call
	$(BIN)/whyrank data movielens-100k
	$(BIN)/pytest tests/bench.py -q -s

# With LIMIT=300, so many cases, a page goes beside its run: what stands in docs/ was measured on all of them
page = $(if $(LIMIT),.whyrank/eval/$(1),docs)/$(2).md

bench-rank: setup  ## Who ranks MovieLens-100K best: writes docs/ranking.md (hours); LIMIT=300: beside the run
	$(BIN)/whyrank models pull tiny
	$(BIN)/whyrank models pull small
	$(BIN)/whyrank data movielens-100k
	$(BIN)/whyrank eval cases movielens-100k --out .whyrank/eval/temporal
	WHYRANK_ENGINE__MODEL=tiny $(BIN)/whyrank engine \
	  $(BIN)/whyrank eval run eval/suites/movielens.yaml --out .whyrank/eval/movielens $(addprefix --limit ,$(LIMIT))
	$(BIN)/whyrank eval report .whyrank/eval/movielens --markdown $(call page,movielens,ranking)

bench-domains: bench-groceries bench-books  ## The same on groceries and books, titles only: writes docs/groceries.md, docs/books.md

bench-groceries: PROTOCOL := temporal
bench-books: PROTOCOL := random
bench-groceries bench-books: bench-%: setup
	$(BIN)/whyrank models pull tiny
	$(BIN)/whyrank data $*
	$(BIN)/whyrank eval cases $* --protocol $(PROTOCOL) --out .whyrank/eval/$*
	$(BIN)/whyrank eval run eval/suites/$*.yaml --out .whyrank/eval/$*-run $(addprefix --limit ,$(LIMIT))
	$(BIN)/whyrank eval report .whyrank/eval/$*-run --markdown $(call page,$*-run,$*)

# How long a history the people have that are asked about
EVENTS ?= 20

bench-history: setup  ## How good the order is after 0 to 20 events, on all three data sets: writes docs/history.md
	for name in movielens-100k groceries books; do $(BIN)/whyrank data $$name; done
	$(BIN)/whyrank eval cases movielens-100k --out .whyrank/eval/temporal
	$(BIN)/whyrank eval cases groceries --out .whyrank/eval/groceries
	$(BIN)/whyrank eval cases books --protocol random --out .whyrank/eval/books
	$(BIN)/whyrank eval curve eval/suites/movielens.yaml eval/suites/groceries.yaml eval/suites/books.yaml --events $(EVENTS) \
	  --out .whyrank/eval/history --markdown $(call page,history,history) $(addprefix --people ,$(LIMIT))

# How many events there are
SCALE ?= 10000000

bench-scale: setup  ## How long a training takes on 10 M invented events, and in how much memory (SCALE=100000: on fewer)
	SCALE=$(SCALE) $(BIN)/pytest tests/scale.py -q -s

verify: setup clients  ## The long checks: hostile titles, engines that die or are too slow, are reasons true and the reason, all clients, all of OpenAPI, every target
	$(BIN)/whyrank models pull minilm
	$(BIN)/whyrank models pull tiny
	$(BIN)/whyrank models pull small
	$(BIN)/whyrank models pull tiny-gguf
	$(BIN)/whyrank data movielens-100k
	$(BIN)/whyrank data groceries
	$(BIN)/whyrank data books
	HOSTILE=all $(BIN)/pytest tests/verify.py tests/test_catalog.py tests/test_hostile.py tests/test_privacy.py tests/test_openapi.py -q -s

clients: $(CLIENTS:%=clients-%)  ## The client libraries that `verify` runs, each family in an environment of its own

$(CLIENTS:%=clients-%): clients-%: .stamps/clients-%

.stamps/clients-%: requirements/clients-%.lock | setup
	$(UV) venv --quiet --clear --python $(BIN)/python .venvs/clients-$*
	$(UV) pip install --quiet --python .venvs/clients-$*/bin/python --no-deps --require-hashes -r $<
	@touch $@

lock: .stamps/uv  ## Compile the locks anew
	$(COMPILE) pyproject.toml --extra engine --extra hosted --extra dev --excludes requirements/excludes.txt $(TORCH) -o requirements/dev.lock
	$(COMPILE) pyproject.toml --extra hosted -o requirements/service.lock
	@for name in $(WEIGHTS); do $(COMPILE) --no-deps requirements/$$name.in -o requirements/$$name.lock; done
	@for name in $(CLIENTS); do $(COMPILE) requirements/clients-$$name.in -o requirements/clients-$$name.lock; done

.stamps/uv:
	@mkdir -p .stamps
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@touch $@

clean:  ## Take away what the targets made, models and data included
	rm -rf .venv .venvs .stamps .whyrank
