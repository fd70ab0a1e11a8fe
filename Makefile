# redconnect: `make run` starts it with a demo appointment, `make test` runs everything. Both set up what they need.
# The distribution's interpreter is built with profile-guided optimisation; one from a version manager often is not, and
# then takes twice the CPU per packet (docs/decisions/0003-interpreter.md).
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11) python3)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := stun relay signaling sfu check config tests loadtest
PYTEST := $(BIN)/python -m pytest
AXE := tests/e2e/node_modules/.installed
FUZZ_TARGETS := message attributes framing turn_server

.PHONY: help setup system-packages run native bpf test in-process services processes check unit conformance e2e e2e-short fuzz bench bench-signaling bench-sfu load screenshots requirements clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 17

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml
	@echo "setting up $(VENV), once" >&2
	@PYTHON=$(PYTHON) scripts/system-packages venv
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements/runtime.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/.dev system-packages $(AXE) ## create .venv with everything that development needs

system-packages:
	@scripts/system-packages test

# What the accessibility tests inject into the pages. No lock file: it would say where the package was fetched from.
$(AXE): tests/e2e/package.json | system-packages
	@npm install --prefix tests/e2e --no-package-lock --no-audit --no-fund --ignore-scripts --silent \
	  || { echo "npm could not install axe-core, which the accessibility tests need" >&2; exit 1; }
	@touch $@

run: $(VENV)/.runtime ## start the service and print the links of a demo appointment
	@$(BIN)/python -m config serve --demo

native: $(VENV)/.dev ## compile the packet paths of relay and conference server, some minutes; used from the next start on
	@PYTHON=$(PYTHON) scripts/system-packages native
	@$(BIN)/python -m config.build_native

bpf: $(VENV)/.dev ## compile the part of the relay that runs in the kernel, some seconds; `make native` does it, too
	@PYTHON=$(PYTHON) scripts/system-packages native
	@$(BIN)/python -m config.build_program

test: setup ## every test, browsers included, but for those that take minutes
	@$(MAKE) --no-print-directory -j2 --output-sync=target in-process services
	@$(MAKE) --no-print-directory e2e-short

# What these tests import is interpreted; the processes of all others run the compiled relay.
in-process: $(VENV)/.dev ## unit tests, random inputs, corpora
	@REDCONNECT_PURE=1 scripts/tests-side-by-side in-process 0 tests/unit tests/fuzz

# Tests of running services, and of browsers, mostly wait for something: several files run side by side.
services: setup native
	@scripts/tests-side-by-side services 3 -m "not long" tests/processes tests/conformance

processes: setup native ## the service as a process: signals, reload, drain, workers, firewalls, failures; also what takes long
	@$(PYTEST) tests/processes

check: $(VENV)/.dev ## linters, types, direction of imports
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

unit: $(VENV)/.dev ## unit tests only
	@$(PYTEST) tests/unit

conformance: setup native ## by RFC section, with coturn's clients as the other end
	@$(PYTEST) tests/conformance

e2e-short: native
	@scripts/tests-side-by-side e2e 3 -m "not long" tests/e2e

e2e: setup native ## real browsers through the real service: also what takes too long for every change, half an hour in all
	@$(PYTEST) tests/e2e

fuzz: $(VENV)/.dev ## many more random inputs than a test run uses, then atheris, FUZZ_SECONDS=60 for each target
	@HYPOTHESIS_PROFILE=fuzz $(PYTEST) tests/fuzz --timeout 1200
	@for target in $(FUZZ_TARGETS); do mkdir -p var/fuzz/$$target; echo "fuzzing $$target"; \
	  $(BIN)/python -m tests.fuzz.targets.$$target -max_total_time=$${FUZZ_SECONDS:-60} -verbosity=0 \
	  -artifact_prefix=var/fuzz/$$target- var/fuzz/$$target tests/fuzz/corpus/$$target || exit 1; done

bench: setup native ## figures beside coturn, measured in the same run (needs root for network namespaces)
	@scripts/system-packages bench
	@$(BIN)/python -m tests.bench.compare_with_coturn

bench-signaling: setup ## CPU of joins and messages, memory of seats, time to the first picture; about fifteen minutes
	@$(BIN)/python -m tests.bench.signaling

bench-sfu: setup native ## the conference server beside Janus, measured in the same run; about seven minutes (needs root for network namespaces)
	@scripts/system-packages bench-sfu
	@$(BIN)/python -m tests.bench.sfu

load: setup native ## Locust against a service of its own: PROFILE=smoke (a minute), day, storm or soak; docs/sizing.md
	@$(BIN)/python -m loadtest --profile $(or $(PROFILE),smoke) --report $(or $(REPORT),build/load/$(or $(PROFILE),smoke)) $(LOAD)

screenshots: setup native ## docs/img/states: every state of the pages, on a desktop and on a phone
	@mkdir -p docs/img/states
	@$(BIN)/python -m tests.support.screenshots docs/img/states

requirements: ## compile requirements/*.in to pinned and hashed *.txt, without any index address
	@$(PYTHON) -m venv $(VENV)/pip-tools
	@$(VENV)/pip-tools/bin/pip install --quiet pip-tools
	@for f in runtime dev; do CUSTOM_COMPILE_COMMAND="make requirements" PIP_CONFIG_FILE=/dev/null \
	  $(VENV)/pip-tools/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements/$$f.txt requirements/$$f.in; done

.PHONY: sbom
sbom: setup ## deploy/sbom.cdx.json: the bill of materials, out of the pins and what is installed
	@$(BIN)/python -m scripts.sbom

clean: ## remove what the targets above created, but not var/ (secrets, appointments)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info build loadtest/turnbench/turnbench loadtest/sfubench/sfubench tests/e2e/node_modules relay/io/datapath/bpf/relay.bpf.o
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
