# One word a task: up, demo, backup, restore, test, soak, month, bench, scale, check, dashboards, pictures, lock, clean. `make` alone tells them.

.DEFAULT_GOAL := help
.PHONY: help up demo backup restore test soak month bench scale check dashboards pictures screenshots lock clean
SHELL := /bin/bash

# The Python that makes the environments; inside .venv everything comes from the lock files.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet

help:
	@echo "make up     run the stack here, until Ctrl-C"
	@echo "make demo   live the evening of 14 July in three minutes, in a browser"
	@echo "make backup write a backup of the stack in Docker; make restore FROM=FILE puts it back"
	@echo "make test   run every test that this machine can run"
	@echo "make soak   repeat for hours what the tests do once"
	@echo "make month  let the rules live through random months and compare what they tell"
	@echo "make bench  measure the exporter beside blackbox_exporter; make scale: 10,000 sites"
	@echo "make check  judge the configuration and the code"
	@echo "make dashboards  build Grafana's files from grafana/boards; make pictures draws them"
	@echo "make screenshots  take the pictures of the pages anew, for docs/"
	@echo "make lock   bring the lock files up to date with pyproject.toml"
	@echo "make clean  remove what make made; the data under .stack stays"

up: $(VENV)/.run
	@exec $(VENV)/bin/dolcevita up

# ARGS=--auto for a recording: nobody presses the buttons, and it ends by itself.
demo: $(VENV)/.run
	@exec $(VENV)/bin/dolcevita demo $(ARGS)

backup: $(VENV)/.run
	@exec $(VENV)/bin/dolcevita backup

restore: $(VENV)/.run
	@exec $(VENV)/bin/dolcevita restore $(or $(FROM),$(error name the backup: make restore FROM=backups/NAME.tar.gz))

# ARGS goes to pytest: make test ARGS="-k calendar". First what mostly computes; then what waits, many
# at a time. What failed may have been late for want of a processor: it is told above, and is tried
# once more with the machine to itself. Of pytest's exit codes 1 is failures, 5 nothing to run.
MANY := --dist loadgroup --no-loadscope-reorder -n
test: $(VENV)/.test
	@$(VENV)/bin/pytest --cache-clear $(MANY) 6 tests/unit $(ARGS); computed=$$?; \
	$(VENV)/bin/pytest $(MANY) 12 tests/integration tests/compose tests/browser $(ARGS); waited=$$?; \
	case "$$computed $$waited" in \
	  "0 0" | "0 5" | "5 0") ;; \
	  "1 "[015] | [05]" 1") exec $(VENV)/bin/pytest $(MANY) 1 --last-failed --maxfail 3 tests $(ARGS) ;; \
	  *) exit $$(( computed > waited ? computed : waited )) ;; \
	esac

soak: $(VENV)/.test
	$(VENV)/bin/pytest -s -m soak $(ARGS)

# ARGS of tests/months.py: make month ARGS="--seed 2 --days 10". Then 300 outages of sixty random
# months through whatif, for routes and muting.
month: $(VENV)/.test
	$(VENV)/bin/python tests/months.py $(ARGS)
	$(VENV)/bin/pytest -q -m "soak or not soak" -k random_months tests/unit/test_whatif.py

# Into docs/bench; ARGS of bench/__main__.py.
bench scale: export PYTHONPATH := .:tests:tests/integration
bench: $(VENV)/.test
	$(VENV)/bin/python -m bench $(ARGS)

# ARGS of bench/scale.py: make scale ARGS="--sites 1000 --minutes 2".
scale: $(VENV)/.test
	$(VENV)/bin/python -m bench.scale $(ARGS)

check: $(VENV)/.test
	$(VENV)/bin/dolcevita check
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

dashboards: $(VENV)/.test
	cd grafana && ../$(VENV)/bin/python -m boards

# Into docs/dashboards, with a made-up past in a real Prometheus.
pictures: $(VENV)/.test
	cd grafana && ../$(VENV)/bin/python -m boards.pictures

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON) is missing or older than Python 3.11: install Python 3.11 or later, or name one: make up PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.test: requirements-test.lock $(VENV)/.run
	$(PIP) install --require-hashes -r requirements-test.lock
	@touch $@

# pip-tools has an environment of its own, so that nothing of it gets into the locks.
LOCK := .stack/lock/bin/pip-compile --quiet --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host --strip-extras --annotation-style=line

# The pictures of docs/, from the browser tests that take them.
screenshots: $(VENV)/.test
	SCREENSHOTS=docs/screenshots $(VENV)/bin/pytest tests/browser

lock: export CUSTOM_COMPILE_COMMAND := make lock
lock: .stack/lock/bin/pip-compile
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --extra browser --constraint requirements.lock \
	  --output-file requirements-browser.lock pyproject.toml
	$(LOCK) --extra test --allow-unsafe --constraint requirements.lock \
	  --output-file requirements-test.lock pyproject.toml
	$(LOCK) --allow-unsafe --only-build-deps --build-deps-for wheel \
	  --output-file requirements-build.lock pyproject.toml

.stack/lock/bin/pip-compile:
	$(PYTHON) -m venv .stack/lock
	.stack/lock/bin/python -m pip --disable-pip-version-check --quiet install pip-tools

clean:
	rm -rf $(VENV) build exporter/*.egg-info .mypy_cache .pytest_cache .ruff_cache
