# Everything runs in .venv, which each target sets up by itself: Python >= 3.11, a C compiler and make are all it takes.
#   make demo    simulate a small stack, denoise it, write the results to demo/
#   make test    the test suite            make lint   ruff and mypy
#   make bench   the benchmarks (with peers: make .venv/with-peers bench)   make dist   source archive and wheel in dist/
#   make test-wheel   build the wheel and test it as installed, outside the checkout
#   make clean   remove what was built     make PYTHON=/path/to/python ...   choose the interpreter

MODERN := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c "$(MODERN)" 2>/dev/null; then echo $$p; exit; fi; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := pyproject.toml setup.py $(wildcard ext/*.pyx mfvdm_fast/ext/*.pxd)
# The requirements of one extra, so that adding them does not build the package again.
extra = $(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$(1)'], sep='\n')"

.PHONY: demo test lint bench dist test-wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/mfvdm-fast demo -o demo --overwrite

test: $(VENV)/with-test
	$(BIN)/python -m pytest

lint: $(VENV)/with-test $(VENV)/with-lint
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/with-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks --benchmark-only --quiet \
		-o addopts= -o python_files='bench_*.py' -o filterwarnings=default

dist: $(VENV)/installed
	$(PIP) build
	$(BIN)/python -m build --outdir dist .

test-wheel: dist $(VENV)/with-test
	rm -rf build/wheel && mkdir -p build/wheel
	$(PYTHON) -m venv build/wheel/venv
	$(call extra,test) > build/wheel/requirements.txt
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls -t dist/*.whl | head -1)" -r build/wheel/requirements.txt
	cp -r tests pyproject.toml build/wheel/
	cd build/wheel && venv/bin/python -m pytest

clean:
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis
	rm -f ext/*.c mfvdm_fast/ext/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	@$(PYTHON) -c "$(MODERN)" || { echo "Python 3.11 or later is needed, and $(PYTHON) is not; use: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c "import ensurepip, venv" || { echo "$(PYTHON) cannot make virtual environments (Debian and Ubuntu: apt-get install python3-venv); install that, or use: make PYTHON=/path/to/python" >&2; exit 1; }
	@command -v "$${CC:-cc}" >/dev/null || command -v gcc >/dev/null || { echo "a C compiler is needed and there is none (Debian and Ubuntu: apt-get install gcc python3-dev)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/installed: $(SOURCES) | $(VENV)/bin/pip
	$(PIP) --editable .
	@touch $@

$(VENV)/with-%: $(VENV)/installed
	$(call extra,$*) > $(VENV)/$*.txt
	$(PIP) -r $(VENV)/$*.txt
	@touch $@
