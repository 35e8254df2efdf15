# Everything from nothing: make demo, make test. Needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Written last, so that an interrupted installation is taken up where it was.
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-demo

.PHONY: setup demo test test-all check bench lock sbom wheels clean venv

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

# Bills of material as CycloneDX: of scoring and of training by the locks, each file with its digest; and of this
# environment (tools of development included) with licences and who needs whom.
SBOM := build/sbom
CYCLONEDX := $(BIN)/cyclonedx-py
CYCLONEDX_OPTIONS := --pyproject pyproject.toml --output-reproducible
sbom: $(READY)
	mkdir -p $(SBOM)
	$(CYCLONEDX) requirements requirements/base.txt $(CYCLONEDX_OPTIONS) -o $(SBOM)/scoring.cdx.json
	$(CYCLONEDX) requirements requirements/demo.txt $(CYCLONEDX_OPTIONS) -o $(SBOM)/training.cdx.json
	$(CYCLONEDX) environment $(VENV) $(CYCLONEDX_OPTIONS) -o $(SBOM)/environment.cdx.json

# What a machine without a network installs from: docs/offline.md. LOCKED=demo for training, base for scoring.
LOCKED := base
WHEELS := build/wheels
wheels: | venv
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEELS) .
	$(BIN)/python -m pip wheel --quiet --no-deps --require-hashes -r requirements/$(LOCKED).txt --wheel-dir $(WHEELS)
	cd $(WHEELS) && sha256sum *.whl > SHA256SUMS

# Resolve the locks again; needs uv (pip install uv). The demo's versions are those of the whole.
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml
DEMO_EXTRAS := --extra train --extra demo

lock:
	$(LOCK) $(DEMO_EXTRAS) --extra anomalib --extra tracking --extra bench --extra fast --extra cluster --extra medical --extra heic \
		--extra serve --extra dev -o requirements/dev.txt
	$(LOCK) $(DEMO_EXTRAS) --constraint requirements/dev.txt -o requirements/demo.txt
	$(LOCK) --constraint requirements/dev.txt -o requirements/base.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
