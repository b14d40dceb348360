# speechvq: every target works from a clean clone with Python 3.11 and a package index, without root. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
DEMO_OUTPUT ?= demo
# Further arguments for pytest: make test ARGS="-k quantizer -x"
ARGS ?=
# Processes that share the tests.
WORKERS ?= 2
bin := $(VENV)/bin
stamp := $(VENV)/.made-from-lock

.PHONY: help venv demo demo-ci test test-quick test-slow test-long check format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+( \S+)?:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+)[^:]*:.*## (.*)/  make \1|\2/' | column -t -s '|' \
		|| grep -hE '^[a-z-]+( \S+)?:.*##' $(MAKEFILE_LIST)

# Made from the lock when missing, brought up to date when the lock or pyproject.toml changed.
$(stamp): requirements/dev.txt requirements/uv.txt requirements/build.txt requirements/make_venv.sh pyproject.toml
	bash requirements/make_venv.sh $(VENV)
	@touch $@

venv $(VENV): $(stamp) ## make the locked environment

demo: $(stamp) ## synthesise speech, prepare, pretrain, finetune, evaluate, report (about ten minutes on two cores)
	$(bin)/python -m recipes.demo output=$(DEMO_OUTPUT)

demo-ci: $(stamp) ## the same in about two minutes: proves the line, not the numbers
	$(bin)/python -m recipes.demo output=$(DEMO_OUTPUT) preset=ci

test: $(stamp) ## all tests that CI runs: quick and slow ones, no GPU, no package index
	$(bin)/python -m pytest -n $(WORKERS) --dist loadfile -m "not gpu and not long" $(ARGS)

test-quick: $(stamp) ## what to run while working: under five minutes
	$(bin)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not gpu and not long" $(ARGS)

test-slow: $(stamp) ## only the slow tests
	$(bin)/python -m pytest -n $(WORKERS) --dist loadfile -m "slow and not gpu and not long" $(ARGS)

test-long: $(stamp) ## only the tests that need a package index or more than ten minutes
	$(bin)/python -m pytest -m "long and not gpu" $(ARGS)

check: $(stamp) ## formatting, ruff, mypy strict, import-linter
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports

format: $(stamp) ## put the code in its form
	$(bin)/ruff check --fix-only --quiet .
	$(bin)/ruff format .

lock: $(stamp) ## resolve the lock files anew (ARGS=--upgrade for the newest versions)
	bash requirements/lock.sh $(bin)/uv $(ARGS)

clean: ## remove what make and the tools made, the environment too
	rm -rf .venv .ci-venv build dist demo .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
