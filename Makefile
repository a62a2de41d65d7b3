# Everything a developer types. `make help` lists it. What the commands need is installed on the way: the Python
# packages into .venv from requirements/dev.txt (every file checked against its hash), and, only where they are
# missing, python3-venv and ffmpeg by apt.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install -qq

INPUT ?=
OUTPUT ?=
SCENARIO ?= 720p-h264
TEST_JOBS ?= 4
ARGS ?=
FAULTS ?= sample
TIME ?= 60
SEEDS ?= 2000
FIRST ?=
CHAOS ?= short
SECONDS ?= 600
BENCHES := $(sort $(wildcard bench/*.py))

.PHONY: help venv demo test test-faults test-disk simulate mutants plants fuzz chaos lint bench clean

help: ## list the targets
	@echo "ffrtmp: make TARGET"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

venv: $(INSTALLED) ## make .venv with everything locked in requirements/

$(LOCKED): requirements/build.txt requirements/dev.txt
	@PYTHON="$(PYTHON)" tools/need.sh python:ensurepip=python3-venv
	@$(BIN)/python -c "import pip" 2>/dev/null || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked packages into $(VENV)"
	@$(PIP) --require-hashes --only-binary :all: -r requirements/build.txt
	@$(PIP) --require-hashes --no-build-isolation -r requirements/dev.txt
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --no-index --editable .
	@touch $@

.PHONY: media
media:
	@tools/need.sh ffmpeg=ffmpeg ffprobe=ffmpeg

demo: $(INSTALLED) media ## a master and an agent here, one job: make demo INPUT=file OUTPUT=file SCENARIO=name
	@$(BIN)/python tools/demo.py --scenario "$(SCENARIO)" --input "$(INPUT)" --output "$(OUTPUT)"

test: $(INSTALLED) media ## all tests but the slow ones (ARGS= is handed to pytest)
	@tools/need.sh strace=strace
	@$(BIN)/pytest -n $(TEST_JOBS) --dist worksteal --ignore=tests/faults --ignore=tests/chaos $(ARGS)

test-faults: $(INSTALLED) media ## kill every program at every step of a job's life: FAULTS=sample or full
	@tools/need.sh strace=strace
	@FAULTS=$(FAULTS) $(BIN)/pytest tests/faults $(ARGS)

test-disk: $(INSTALLED) ## fail, tear or lose every write and sync of a master's day (some minutes)
	@DISK=full $(BIN)/pytest -n 2 --dist worksteal --timeout 900 tests/store/test_every_write.py $(ARGS)

mutants: $(INSTALLED) ## break the rules one small way at a time for SECONDS=600; goes on where it was
	@test -x build/mutants/venv/bin/cosmic-ray || $(PYTHON) -m venv build/mutants/venv
	@$(subst $(BIN),build/mutants/venv/bin,$(PIP)) --require-hashes -r requirements/mutants.txt
	@build/mutants/venv/bin/python tools/mutants.py --seconds $(SECONDS) $(ARGS)

plants: $(INSTALLED) ## plant known bugs one by one and see that worlds of the simulator find each: FIRST=0 (ARGS="--worlds 2000")
	@$(BIN)/python tools/plants.py $(if $(FIRST),--first $(FIRST)) $(ARGS)

chaos: $(INSTALLED) media ## a farm on a network that breaks: CHAOS=short or full, CHAOS_SEED=N repeats
	@tools/need.sh strace=strace mkfs.ext4=e2fsprogs mount=mount faketime=faketime
	@CHAOS="$(CHAOS)" PYTHONPATH=tests $(BIN)/python -m chaos
	@$(BIN)/pytest -q tests/chaos

simulate: $(INSTALLED) ## worlds in which everything goes wrong: SEEDS=2000 fresh ones, FIRST=N for the same again (ARGS="--record FILE")
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(if $(FIRST),--first $(FIRST)) $(ARGS)

fuzz: $(INSTALLED) ## spoil what comes from outside, TIME=60 seconds for each decoder, and report the coverage
	@PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(TIME)

lint: $(INSTALLED) ## ruff, mypy --strict, import rules, the feature table, the locks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --no-error-summary tools $(BENCHES)
	@$(BIN)/lint-imports
	@$(BIN)/python tools/check_parity.py
	@$(BIN)/python tools/check_locks.py

bench: $(INSTALLED) media ## the measurements behind the figures in the README
	@for script in $(BENCHES); do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

clean: ## remove all that was made here
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +
	@find . -maxdepth 2 -name '*.egg-info' -prune -exec rm -rf {} +
