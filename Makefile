# Everything a newcomer needs; it asks for git, make and Python 3.11 or newer, and keeps to this folder.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALLED := .venv/.installed

# A worker that has to compile its own modules takes a third more CPU to start, and the tests start many.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench-stream bench-scoring bench-money simulate faults money-mutate schemas lock clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Set up .venv (every other target does it by itself)
	@echo "Ready: make demo, make test"

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "lead-router needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { \
	  echo "Setting up .venv with $$($(PYTHON) --version) ..."; $(PYTHON) -m venv .venv; } || { rm -rf .venv; \
	  echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing $$(grep -c '==' requirements.lock) pinned packages, less than a minute ..."
	@$(PIP) install --require-hashes --requirement requirements.lock
	@PYTHONWARNINGS=ignore $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) ## Route leads through real parts and audit the result: STORES=file.csv LEADS=n RATE=per_second ARGS=...
	@$(BIN)/lead-router demo $(if $(STORES),--stores "$(STORES)") $(if $(LEADS),--leads $(LEADS)) $(if $(RATE),--rate $(RATE)) $(ARGS)

# Faults run side by side with each other, and simulated schedules on all processors: nothing else beside them.
# On embedded parts they are left to make faults: what they show there they show on real ones as well.
test: $(INSTALLED) ## Run the tests: ARGS="-k words" for some, ARGS="-m 'not real'" without Kafka and Redis
ifdef ARGS
	@$(BIN)/pytest $(ARGS)
else
	@$(BIN)/pytest -n 3 tests --ignore=tests/faults --ignore=tests/test_simulation.py
	@$(BIN)/pytest tests/test_simulation.py
	@$(BIN)/pytest tests/faults -k "not embedded"
endif

check: $(INSTALLED) ## Lint, formatting, types, floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench-stream: $(INSTALLED) ## Measure the whole way on real Kafka and Redis: STORES=file.csv ARGS="--help"
	@$(BIN)/python -m bench.stream $(if $(STORES),--stores "$(STORES)") $(ARGS)

bench-scoring: .venv/.bench ## Measure the ranking core beside its peers: ARGS="--quick" for small sizes
	@MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=1073741824 OMP_NUM_THREADS=1 \
	  $(BIN)/python -m bench.scoring $(ARGS)

.venv/.bench: $(INSTALLED) requirements-bench.lock
	@echo "Installing what the ranking core is compared with ..."
	@$(PIP) install --require-hashes --requirement requirements-bench.lock
	@touch $@

bench-money: $(INSTALLED) ## Put a million orders with refunds through the pure core of commission: ARGS="--orders n --seed n"
	@$(BIN)/python -m bench.money $(ARGS)

simulate: $(INSTALLED) ## Replay one run of the simulator, with a trace: SEED=n
	@$(BIN)/python -m tests.simulation $(SEED)

faults: $(INSTALLED) ## Run the tests named after faults and print which rows hold: ARGS=--write for the docs
	@$(BIN)/python -m tests.faults.table $(ARGS)

money-mutate: $(INSTALLED) ## Take each protection of money away and show which test misses it: ARGS=--write for the docs
	@$(BIN)/python -m tests.money.table $(ARGS)

schemas: $(INSTALLED) ## Write the JSON Schemas of all topics to docs/schemas
	@$(BIN)/lead-router schemas docs/schemas

lock: $(INSTALLED) ## Pin the newest allowed packages in requirements.lock
	@CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --extra dev --extra embedded --all-build-deps --allow-unsafe \
	  --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --output-file requirements.lock pyproject.toml
	@CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --extra bench --constraint requirements.lock \
	  --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --output-file requirements-bench.lock pyproject.toml

clean: ## Remove everything that was made
	rm -rf .venv .cache .*_cache .hypothesis build dist *.egg-info
