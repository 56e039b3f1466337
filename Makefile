# Everything a newcomer types. PYTHON picks the interpreter: make train PYTHON=python3.12
PYTHON ?= python3
export PYTHONDONTWRITEBYTECODE :=
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin

.PHONY: train test test-all up lint bench robustness privacy fed-heart fedavg chaos lock

train: .venv/installed
	@$(BIN)/roundhouse train quickstart

PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The suite: of tests that take long, the short form. About a quarter of an hour on two cores.
test: .venv/installed-dev
	$(PYTEST) -m "not slow"

# Every test, the long forms too: about twice as long.
test-all: .venv/installed-dev
	$(PYTEST)

up: .venv/installed
	@$(BIN)/roundhouse up

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# About half an hour, alone on the machine. Flower, which it measures too, has an environment of its own.
bench: .venv/installed-dev .venv-flower/installed
	$(BIN)/python -m benchmarks

# Robust rules, and the mean, under every attack: writes docs/robustness.md. About seven minutes.
robustness: .venv/installed-dev
	$(BIN)/python -m benchmarks.robustness

# Accuracy against epsilon: writes docs/privacy-utility.md and its picture. ROUNDHOUSE_DATA is the folder with
# fashion-mnist and heart-disease, which are left out without it. About four minutes.
privacy: .venv/installed-dev
	$(BIN)/python -m benchmarks.privacy

# Published results, again: docs/reproductions.md. ROUNDHOUSE_DATA is the folder with heart-disease and fashion-mnist.
# The first takes minutes. The second takes days on two cores; stopped by Ctrl-C, it goes on where it was.
fed-heart: .venv/installed-dev
	$(BIN)/python -m benchmarks.reproductions fed-heart

fedavg: .venv/installed-dev
	$(BIN)/python -m benchmarks.reproductions fedavg

# Kills trainings and servers at named points, and looks that nothing was lost or done twice. Minutes.
chaos: .venv/installed-dev
	$(BIN)/python -m tests.chaos

# After a change of the dependencies in pyproject.toml.
lock: .venv/installed-dev
	$(BIN)/uv pip compile pyproject.toml --universal --no-annotate --python-version 3.11 --generate-hashes --no-header \
		--quiet --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --no-annotate --python-version 3.11 --generate-hashes --no-header \
		--quiet --constraint requirements.lock --output-file requirements-dev.lock

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Roundhouse needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: requirements.lock pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(BIN)/python -m pip check --disable-pip-version-check
	@touch $@

.venv/installed-dev: requirements-dev.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --no-deps --require-hashes --requirement requirements-dev.lock
	@$(BIN)/python -m pip check --disable-pip-version-check
	@touch $@

.venv-flower/installed: benchmarks/requirements-flower.txt | .venv/bin/python
	$(BIN)/python -m venv .venv-flower
	.venv-flower/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements-flower.txt
	@touch $@
