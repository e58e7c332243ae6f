# make bench   time everything, print the table, write bench/results/report.html
# make test    the test suite
# make lint    ruff, cython-lint, codespell          make types   mypy
# make build   only compile                          make clean   remove what was built (.venv stays)
# make debug-test   the suite against a build that checks every index
#
# Each makes .venv and compiles when that is needed, and starts at once when it is not.
#   PYTHON=python3.13            the interpreter for .venv (at least 3.11)
#   TEST_ARGS="-k csr -x"        handed to pytest              BENCH_ARGS=--quick   handed to bench

PYTHON ?= python3
EXTRAS ?= test,bench,plot,dev
VENV := .venv
PY := $(VENV)/bin/python
KERNELS := $(wildcard fastopt/_kernels/*.pyx fastopt/_kernels/*.pxd)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help bench test lint types format build debug-test clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

bench: $(VENV)/.built
	$(PY) -m bench $(BENCH_ARGS)

test: $(VENV)/.built
	$(PY) -m pytest $(TEST_ARGS)

lint: $(VENV)/.installed
	$(PY) -m ruff check .
	$(VENV)/bin/cython-lint fastopt/_kernels
	$(VENV)/bin/codespell

types: $(VENV)/.installed
	$(PY) -m mypy

format: $(VENV)/.installed
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

build: $(VENV)/.built

# setup.py compiles only what changed, so that this is quick after an edit of one kernel.
$(VENV)/.built: $(VENV)/.installed setup.py $(KERNELS)
	$(PY) setup.py --quiet build_ext --inplace
	@touch $@

# Build requirements live in .venv too: no isolated build environment to fill at each compilation.
$(VENV)/.installed: $(PY) pyproject.toml
	$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    > $(VENV)/build-requires.txt
	$(PY) -m pip install --quiet -r $(VENV)/build-requires.txt
	$(PY) -m pip install --quiet --no-build-isolation --editable '.[$(EXTRAS)]'
	@touch $@

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "fastopt needs Python 3.11 or newer; $(PYTHON) is not. Name another one: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@cc=$${CC:-$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}; \
	    command -v $${cc%% *} >/dev/null || \
	    { echo "fastopt needs a C compiler; $${cc%% *} was not found. Install gcc or clang, or name one: make $(MAKECMDGOALS) CC=clang" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

clean:
	rm -rf build dist *.egg-info fastopt/_kernels/*.so .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks $(VENV)/.built
	find fastopt tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
