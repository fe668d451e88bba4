# Ruqsat: one command each.  `make` or `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
DEMO   ?= var/demo
# One more than there are processors: a third of the tests' time is waiting for processes, disks and leases.
TESTERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# Compiled modules are kept whatever the environment says: the tests start hundreds of processes of the same sources.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install run run-full demo-day test collect check lint types contracts policy bench bench-gate bench-gate-trial bench-quick bench-micro bench-locust bench-population bench-overload bench-memory bench-nginx bench-peers fuzz soak lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.run ## make .venv with the sidecar in it

run: $(VENV)/.run ## start the sidecar with a synthetic demo world (SQLite, no Redis, durable journal)
	@mkdir -p $(DEMO)
	@RUQSAT_DATABASE_URL=sqlite:///$(DEMO)/ruqsat.db RUQSAT_JOURNAL_DIR=$(DEMO)/journal exec $(BIN)/ruqsat serve --demo

run-full: $(VENV)/.test ## two sidecars on PostgreSQL, Valkey beside them: local processes from wheels, under var/full
	@PYTHONPATH=. exec $(BIN)/python examples/run_full.py

demo-day: $(VENV)/.run ## live a day in a synthetic hospital, print what each person sees; pages under var/demo-day/paper
	@PYTHONPATH=. exec $(BIN)/python -m examples.demo_day

test: $(VENV)/.test ## run every test
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

collect: $(VENV)/.test ## import every test, and keep what that compiles for the workers that run them
	@$(BIN)/python -m pytest --collect-only -q >$(VENV)/collected || { cat $(VENV)/collected; exit 1; }
	@tail -n 1 $(VENV)/collected

check: lint types contracts policy ## lint, types, import contracts, policy

lint: $(VENV)/.test ## style and security lints, test sentences
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test ## mypy, strict, on src
	$(BIN)/mypy

contracts: $(VENV)/.test ## which way imports may point
	$(BIN)/lint-imports

policy: $(VENV)/.run ## check the policy pack and run its cases
	$(BIN)/ruqsat policy check .
	$(BIN)/ruqsat policy test .
	$(BIN)/ruqsat policy fmt --check .
	$(BIN)/ruqsat policy trace-law .
	$(BIN)/ruqsat policy coverage --fail-under 70 .

bench: $(VENV)/.bench ## measure everything (25 minutes, two quiet cores, wrk) and write bench/README.md with its plots
	PYTHONPATH=. $(BIN)/python bench/driver.py
	PYTHONPATH=. $(BIN)/python bench/report.py

bench-gate: $(VENV)/.bench ## a minute: has a call become dearer, or an answer wrong? (bench/thresholds.toml)
	PYTHONPATH=. $(BIN)/python bench/gate.py

bench-gate-trial: $(VENV)/.bench ## is the gate any good? five planted delays, ten clean runs (a quarter of an hour)
	PYTHONPATH=. $(BIN)/python bench/gate_trial.py --clean 10 --results bench/results/gate_trial.json

bench-quick: $(VENV)/.run ## measure the hot path against a no-op in the same run (needs wrk)
	$(BIN)/python bench/quick.py

bench-micro: $(VENV)/.run ## one figure a question: flatness, compiling, CompiledEnforcer against pycasbin, an entry, shipping
	@missed=0; for each in evaluate_by_rules compile_rules compiled_enforcer journal_entry shipping copies; do echo "== $$each"; PYTHONPATH=. $(BIN)/python bench/micro/$$each.py || missed=1; done; exit $$missed

bench-population: $(VENV)/.test ## import 1,000, 100,000 and 1,000,000 patients and decide beside them (minutes, 6 GB of disk)
	PYTHONPATH=. $(BIN)/python bench/population.py --results bench/results/population.json

bench-overload: $(VENV)/.test ## three times too much at forward-auth, open loop: goodput, p99, recovery (two cores)
	PYTHONPATH=. $(BIN)/python bench/overload.py

bench-memory: $(VENV)/.test ## ten minutes of an adversarial mix at every listener, and the memory meanwhile
	PYTHONPATH=. $(BIN)/python bench/memory.py

bench-nginx: $(VENV)/.test ## what forward-auth costs a request through nginx, durable and lossy, against a no-op (needs nginx and wrk)
	PYTHONPATH=. $(BIN)/python bench/nginx_cost.py

bench-peers: $(VENV)/.peers ## pycasbin, Cerbos and Cedar beside us on the same decisions (needs npm, wrk, two cores; minutes)
	PYTHONPATH=. $(BIN)/python bench/peers/run.py

fuzz: $(VENV)/.test ## ten minutes for each reader of bytes of strangers
	@for each in canonicaliser header_adapter body_check token claims read_encounter; do PYTHONPATH=. $(BIN)/python fuzz/run.py $$each --seconds 600 || exit 1; done

soak: $(VENV)/.test ## the random tests, twenty times as long: ten minutes of chaos, hundreds of kills, fifty stops, 20,000 altered journals, memory, overload
	RUQSAT_TEST_PAIRS=20000 RUQSAT_TEST_LONGER=20 $(BIN)/python -m pytest --timeout 7200 tests/casbin tests/policies/test_hostile_packs.py tests/policies/test_traps.py tests/admission/test_policy_follower.py tests/stores/test_torn_reads.py tests/stores/test_facts_bulk.py tests/conformance tests/freshness tests/chaos tests/journal tests/wire tests/process/test_stop.py tests/process/test_under_pressure.py
	PYTHONPATH=. $(BIN)/python bench/overload.py
	PYTHONPATH=. $(BIN)/python bench/nginx_cost.py

SHAPE ?= steady_reads
bench-locust: $(VENV)/.bench ## a world, a sidecar and Locust on it: make bench-locust SHAPE=consent_churn (bench/asking.py lists them)
	PYTHONPATH=. $(BIN)/python bench/load.py --shape $(SHAPE)

lock: ## pin every dependency anew (needs uv)
	uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate -q pyproject.toml -o constraints.txt

clean: ## remove what was made here
	rm -rf $(VENV) var bench/out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.python:
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing the sidecar (once)"
	@$(PIP) install --progress-bar on -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "installing what the tests need: linters, real proxies, PostgreSQL, Valkey (once)"
	@$(PIP) install --progress-bar on -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.peers: $(VENV)/.run
	@echo "installing Cedar (once)"
	@$(PIP) install --progress-bar on -c constraints.txt -e '.[peers]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@echo "installing Locust and matplotlib (once)"
	@$(PIP) install --progress-bar on -c constraints.txt -e '.[bench]'
	@touch $@
