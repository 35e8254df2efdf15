# Everything from nothing: make demo, make test. Needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Written last, so that an interrupted installation is taken up where it was.
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-demo

.PHONY: setup demo test test-all check bench lock clean venv

setup: $(READY)

# What the demo needs is a part of the whole, with the same versions: after setup nothing is left to install for
# it, and setup after the demo adds the rest to the same environment.
$(READY): requirements/dev.txt pyproject.toml | venv
	$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	touch $(DEMO_READY) $(READY)

# Modules are compiled when they are first imported: most of them never are.
$(DEMO_READY): requirements/demo.txt | venv
	$(PIP_INSTALL) --no-compile --require-hashes -r requirements/demo.txt
	touch $(DEMO_READY)

# An environment whose making was interrupted has a python without pip.
venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)

demo: $(DEMO_READY)
	$(BIN)/python cli.py demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(READY)
	$(BIN)/python -m pytest -m "slow or not slow"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks all

# Resolve the locks again; needs uv (pip install uv). The demo's versions are those of the whole.
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml
DEMO_EXTRAS := --extra train --extra demo

lock:
	$(LOCK) $(DEMO_EXTRAS) --extra anomalib --extra tracking --extra bench --extra fast --extra cluster --extra medical --extra heic \
		--extra dev -o requirements/dev.txt
	$(LOCK) $(DEMO_EXTRAS) --constraint requirements/dev.txt -o requirements/demo.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
