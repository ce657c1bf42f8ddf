# make sweep   set up .venv, then find the fastest configuration that still sounds right
# make test    set up, then run the tests          make check   lint, format, types, arrows
# make ui      look at the runs in MLflow          make clean   remove what setup made

PYTHON ?= python3
CONFIG ?= configs/quickstart.yaml
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

.PHONY: setup sweep test check ui lock clean
.DEFAULT_GOAL := setup

setup: .venv/.done

sweep: setup
	$(BIN)/mosgate sweep $(CONFIG)

test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: setup
	$(BIN)/mosgate ui

# A stamp is written last: an interrupted step starts over, from pip's cache, in a clean .venv.
.venv/.packages: requirements-build.lock requirements.lock
	@.ci/preflight $(PYTHON) $(CXX)
	@echo "setup 1/3  a fresh .venv with the tools that build packages"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --no-compile --require-hashes -r requirements-build.lock
	@echo "setup 2/3  the pinned packages (3 GB to download once, a few minutes)"
	@$(PIP) install --no-compile --require-hashes --no-build-isolation --use-pep517 \
		-r requirements.lock
	@$(BIN)/python -W ignore -m compileall -qq -j 0 .venv/lib || true  # pip would use one core
	@touch $@

.venv/.done: .venv/.packages pyproject.toml
	@echo "setup 3/3  mosgate itself"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# After a change of the dependencies in pyproject.toml; needs uv.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
lock:
	$(LOCK) --extra dev pyproject.toml --output-file requirements.lock
	$(LOCK) --constraint requirements.lock requirements-build.in \
		--output-file requirements-build.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
