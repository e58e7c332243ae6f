# make bench   time everything, print the table, write bench/results/report.html
# make bench-full      the same with every peer that installs, all problems, an hour
# make bench-compare BASE=main   this tree against another revision, alternating; fails where it is slower beyond doubt
# make roofline        how near each kernel comes to the machine's limit
# make test    the test suite
# make lint    ruff, cython-lint, codespell          make types   mypy            make pyright   the same by another
# make workflows       the files of .github against their schemas, zizmor, sp-repo-review
# make docs    the documentation, into docs/_build/html
# make build   only compile                          make format  ruff lays out the Python files
# make clean   remove what was built (.venv, bench/results stay)
# make debug-test      the suite against a build that checks every index
# make sanitize-test   the suite under the address and undefined-behaviour sanitizers (gcc)
# make sanitize        the fuzzed arrays, model files and malformed data under the sanitizers
# make fuzz            10,000 fuzzed fits instead of the suite's 500, and a matrix of more than 2^31 entries
# make recipes         the recipes of CONTRIBUTING.md, carried out on a copy of the tree, and the tests of what they made
# make wheel           sdist and abi3 wheel into dist, tested on every CPython that is found (WHEEL_ARGS=--all: all tests on each)
# make release-dry-run the same from a tagged clone, through a package index on loopback
#
# Each makes .venv and compiles when that is needed, and starts at once when it is not.
#   PYTHON=python3.13            the interpreter for .venv (at least 3.11)
#   TEST_ARGS="-k csr -n 2"      handed to pytest              BENCH_ARGS=--quick   handed to bench

PYTHON ?= python3
EXTRAS ?= test,bench,plot,dev
VENV := .venv
PY := $(VENV)/bin/python
KERNELS := $(wildcard fastopt/_kernels/*.pyx fastopt/_kernels/*.pxd)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help bench roofline bench-full bench-peers bench-compare test docs lint types pyright workflows format build debug-test sanitize-test sanitize fuzz recipes wheel release-dry-run clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

bench: $(VENV)/.built
	$(PY) -m bench $(BENCH_ARGS)

bench-full: bench-peers
	$(PY) -m bench --full $(BENCH_ARGS)

# One by one: a peer that has no wheel for this machine must not keep the others away.
bench-peers: $(VENV)/.built
	@$(PY) -c 'import tomllib; t = tomllib.load(open("pyproject.toml", "rb")); \
	    print(*t["project"]["optional-dependencies"]["bench-peers"], sep="\n")' | while read -r peer; do \
	    $(PY) -m pip install --quiet "$$peer" || echo "$$peer does not install here; the report will say so"; done

roofline: $(VENV)/.built
	$(PY) -m bench.roofline

bench-compare: $(VENV)/.built
	@test -n "$(BASE)" || { echo "Name the revision to compare with: make bench-compare BASE=main" >&2; exit 1; }
	$(PY) -m bench.compare $(BASE) $(BENCH_ARGS)

test: $(VENV)/.built
	$(PY) -m pytest --doctest-modules $(TEST_ARGS)

# The docs' own requirements are installed by their first build. Every build draws the pictures anew.
docs: $(VENV)/.built
	@$(PY) -c 'import matplotlib, myst_parser, numpydoc, pydata_sphinx_theme, sphinx_gallery; __import__("sphinx-mathjax-offline")' 2>/dev/null || $(PY) -c 'import tomllib; \
	    print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' | \
	    $(PY) -m pip install --quiet -r /dev/stdin
	$(PY) -m sphinx -W --keep-going --quiet -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# cython-lint calls pycodestyle by name, hence the PATH.
lint: $(VENV)/.installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check --quiet . || { echo "make format lays these out" >&2; exit 1; }
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint fastopt/_kernels
	$(VENV)/bin/codespell

# The package; what a user's type checker sees of it; the stubs against the compiled modules.
types: $(VENV)/.built
	$(PY) -m mypy
	$(PY) -m mypy tests/typing
	$(PY) -m mypy.stubtest --concise --mypy-config-file pyproject.toml --allowlist tests/typing/stubtest.txt \
	    $(patsubst fastopt/_kernels/%.pyx,fastopt._kernels.%,$(sort $(wildcard fastopt/_kernels/*.pyx)))

# Tools that only these two need: a group of pyproject.toml, installed by its first user.
group = @$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$(1)"], sep="\n")' | \
    $(PY) -m pip install --quiet -r /dev/stdin

pyright: $(VENV)/.built
	$(call group,pyright)
	$(VENV)/bin/basedpyright --pythonpath $(PY)

workflows: $(VENV)/.installed
	$(call group,workflows)
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(VENV)/bin/zizmor --offline --quiet --persona=auditor .
	$(VENV)/bin/repo-review .

format: $(VENV)/.installed
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

build: $(VENV)/.built

# setup.py compiles only what changed, so that this is quick after an edit of one kernel.
$(VENV)/.built: $(VENV)/.installed setup.py $(KERNELS)
	$(PY) setup.py --quiet build_ext --inplace
	@touch $@

# Build requirements live in .venv too: no isolated build environment to fill at each compilation. Of pyproject.toml only the
# tables that say what is installed count: an edit of a linter's table installs nothing.
$(VENV)/.installed: $(PY) pyproject.toml
	@$(PY) -c 'import tomllib; t = tomllib.load(open("pyproject.toml", "rb")); \
	    print(*t["build-system"]["requires"], sep="\n"); print("#", t["project"], t["tool"]["setuptools"], "$(EXTRAS)")' > $(VENV)/wanted.txt
	@cmp -s $(VENV)/wanted.txt $(VENV)/installed.txt || { \
	    echo "Installing what fastopt needs into $(VENV) and compiling it: a minute or two, once." && \
	    $(PY) -m pip install --quiet -r $(VENV)/wanted.txt && \
	    $(PY) -W ignore::UserWarning -m pip install --quiet --no-build-isolation --editable '.[$(EXTRAS)]' && \
	    mv $(VENV)/wanted.txt $(VENV)/installed.txt; }
	@touch $@

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "fastopt needs Python 3.11 or newer; $(PYTHON) is not. Name another one: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@cc=$${CC:-$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}; \
	    command -v $${cc%% *} >/dev/null || \
	    { echo "fastopt needs a C compiler; $${cc%% *} was not found. Install gcc or clang, or name one: make $(MAKECMDGOALS) CC=clang" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' || \
	    { echo "fastopt needs Python's headers; $(PYTHON) has no Python.h. Install its -dev or -devel package." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Checked builds live in a copy of the tree, where they cannot replace the fast modules. Modification times are kept and
# compiled modules stay, so that a second run compiles only what changed. FASTOPT_* stays set for tests that want to know.
define checked_tree
	@mkdir -p build/$(1)
	@cd build/$(1) && find . -path ./build -prune -o -type f ! -name '*.so' -exec rm -f {} +
	@tar -cf - --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./bench/results --exclude='*.so' \
	    --exclude=__pycache__ --exclude='.*_cache' . | tar -xf - -C build/$(1)
endef

debug-test: export FASTOPT_DEBUG := 1
debug-test: $(VENV)/.installed
	$(call checked_tree,debug)
	cd build/debug && $(abspath $(PY)) setup.py --quiet build_ext --inplace
	cd build/debug && PYTHONPATH=$$PWD $(abspath $(PY)) -m pytest $(TEST_ARGS)

# --capture=sys: pytest's usual capture would swallow the sanitizers' reports.
sanitize-test: export FASTOPT_SANITIZE := 1
sanitize-test: $(VENV)/.installed
	$(call checked_tree,sanitize)
	cd build/sanitize && $(abspath $(PY)) setup.py --quiet build_ext --inplace
	cd build/sanitize && PYTHONPATH=$$PWD PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
	    $(abspath $(PY)) -m pytest --capture=sys $(TEST_ARGS)

# What untrusted input reaches. Tests that start processes of their own would lose the preloaded sanitizers.
sanitize:
	$(MAKE) sanitize-test TEST_ARGS="-q tests/test_fuzz.py tests/test_design.py tests/test_model_file.py tests/test_resume.py \
	    -k 'not kill'"

# The recipes of CONTRIBUTING.md, carried out on a copy of the tree.
recipes: $(VENV)/.built
	FASTOPT_RECIPES=1 $(PY) -m pytest tests/test_recipes.py $(TEST_ARGS)

fuzz: $(VENV)/.built
	FASTOPT_FUZZ=10000 $(PY) -m pytest --timeout=3600 tests/test_fuzz.py tests/test_numbers.py $(TEST_ARGS)

# They make environments of their own, since what they test is what others install.
wheel:
	$(PYTHON) tools/wheel.py $(WHEEL_ARGS)

release-dry-run:
	$(PYTHON) tools/wheel.py --release $(WHEEL_ARGS)

clean:
	rm -rf build dist *.egg-info fastopt/_kernels/*.so fastopt/_kernels/v[34] .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks $(VENV)/.built
	rm -rf docs/_build docs/_static/generated docs/auto_examples
	find fastopt tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
