# The one door for developers. Needs Python 3.11 or newer, git and make; everything else goes into .venv.
# All paths are relative, because make cannot handle a checkout whose path holds a space in any other way.

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL_CHECKOUT := $(PIP) install -qq --no-deps --no-index --no-build-isolation --editable .
# Workers of the test run. The suite is safe to run in parallel; 0 runs it in one process. Tests wait a good part
# of their time for processes and disks, so there is one more than the two processors that it is made for.
JOBS ?= 3
# The suite starts hundreds of processes: where bytecode is not kept, each would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=
# Options for pytest, such as make test ARGS="-k lease -x".
ARGS ?=
# What `make check test` has looked at already.
CHECKED := $(if $(filter check,$(MAKECMDGOALS)),--ignore=tests/tidy)
# Empty keeps the pins that still fit; make lock UPGRADE=--upgrade takes the newest versions.
UPGRADE ?=

LOCKS := $(patsubst %,--requirement %,$(wildcard requirements*.lock))

.DEFAULT_GOAL := help
.PHONY: help run test check types tidy bench crash fmt docs lock wheel licences sbom audit clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r verb text; do printf '%-14s %s\n' "$$verb" "$$text"; done

run: .venv/.run-installed ## Start a server with two example agents at work (data in $DORK_HOME, else .dork)
	@exec env DORK_HOME="$${DORK_HOME:-$$PWD/.dork}" $(BIN)/python examples/run.py

test: .venv/.dev-installed ## Run every test, on SQLite and on a PostgreSQL of its own (JOBS=3, ARGS="-k name")
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(CHECKED) $(ARGS)

check: .venv/.dev-installed ## Run linters, types, import contracts, database check and tidy tests; changes nothing
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/dorkos db check
	@$(MAKE) --no-print-directory -j2 types tidy

# The two that take long: each keeps one processor busy.
types:
	$(BIN)/python -m mypy

tidy:
	$(BIN)/python -m pytest -q tests/tidy

bench: .venv/.bench-installed ## Measure the speeds that docs promise beside the promise, the limit and others
	$(BIN)/python -m benchmarks $(ARGS)

crash: .venv/.dev-installed ## Break servers on purpose and count the promises kept (ARGS="--kills 200 --seed 1 --engine sqlite")
	$(BIN)/python -m tests.crash.laboratory $(ARGS)

fmt: .venv/.dev-installed ## Format the code and mend what the linter can mend
	$(BIN)/python -m ruff check --fix-only .
	$(BIN)/python -m ruff format .

docs: .venv/.dev-installed ## Write docs/reference from the code
	$(BIN)/python -m scripts.reference

lock: ## Write the lock files from pyproject.toml with uv (UPGRADE=--upgrade takes new versions)
	scripts/lock $(UPGRADE)

wheel: .venv/.dev-installed ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

licences: .venv/.dev-installed ## List the licence of every package that DorkOS brings
	@$(BIN)/python -m scripts.licences

sbom: .venv/.dev-installed ## Write dist/sbom.cdx.json: every package that DorkOS brings, with its hashes
	@$(BIN)/python -m scripts.sbom dist/sbom.cdx.json

audit: .venv/.dev-installed ## Ask whether a weakness is known of anything that is locked (needs network)
	$(BIN)/pip-audit --require-hashes --disable-pip $(LOCKS)

clean: ## Remove .venv, caches and builds (keeps .dork, which is data)
	rm -rf .venv dist build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a second call installs nothing, and works without network. Each is made last, so that an
# interrupted step runs again.
.venv/.created: scripts/venv
	@scripts/venv
	@touch $@

.venv/.run-needs: .venv/.created requirements.lock requirements-build.lock
	@echo "Installing what DorkOS needs, from requirements.lock"
	@$(PIP) install -qq --require-hashes -r requirements.lock -r requirements-build.lock
	@touch $@

.venv/.run-installed: .venv/.run-needs pyproject.toml
	@$(INSTALL_CHECKOUT)
	@touch $@

# The wheels stay in .venv/wheels: the packaging test installs from them. Compiled is only what is imported, when it
# is first imported: a third of the time of an installation went into modules that nobody needs.
.venv/.dev-needs: .venv/.created requirements-dev.lock
	@echo "Installing what developers need, from requirements-dev.lock"
	@$(PIP) download -qq --require-hashes -d .venv/wheels -r requirements-dev.lock
	@$(PIP) install -qq --no-compile --no-index --find-links .venv/wheels --require-hashes -r requirements-dev.lock
	@scripts/hooks
	@touch .venv/.run-needs $@

.venv/.dev-installed: .venv/.dev-needs pyproject.toml
	@$(INSTALL_CHECKOUT)
	@touch .venv/.run-installed $@

.venv/.bench-installed: .venv/.dev-installed requirements-bench.lock
	@echo "Installing what DorkOS is measured against, from requirements-bench.lock"
	@$(PIP) install -qq --require-hashes -r requirements-bench.lock
	@touch $@
