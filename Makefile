# `make demo` and `make test` set themselves up; PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WITHOUT_VNNI := .venv-without-vnni
# A worker that has nothing left to do takes over half of what the other one has not begun.
TWO_WORKERS := -n 2 --dist worksteal

.PHONY: demo test test-all test-without-vnni edge lint setup clean

demo: setup
	$(BIN)/python cli.py deploy --dataset digits --depth 20 --variant preact

test: setup
	$(BIN)/python -m pytest $(TWO_WORKERS) -m "not slow"

test-all: setup
	$(BIN)/python -m pytest $(TWO_WORKERS)

# The C++ library in edge/: installs what it needs, builds it with two compilers and the sanitizers, and tests it.
edge: setup
	$(BIN)/python -m tools.edge.make

# As on an x86 CPU that has AVX2 only, on one that has more.
test-without-vnni: $(WITHOUT_VNNI)/.made
	$(WITHOUT_VNNI)/python -m pytest $(TWO_WORKERS) -m "not slow"

$(WITHOUT_VNNI)/.made: $(STAMP) tools/without_vnni.py tools/without_vnni.c
	rm -rf $(WITHOUT_VNNI)
	$(BIN)/python tools/without_vnni.py $(WITHOUT_VNNI)
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(STAMP)

# The dependencies, pinned; skipfold itself runs from the checkout.
$(STAMP): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "skipfold needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(WITHOUT_VNNI) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
