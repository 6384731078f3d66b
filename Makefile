# Both commands need only python3 (3.11 or newer) and make; everything else goes into .venv.
PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)

.PHONY: demo test lint docs dist env clean

env: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv sync --quiet --inexact --compile-bytecode --python $(BIN)/python
	$(BIN)/python -m compileall -q latentrot
	touch $@

demo: env
	$(BIN)/latentrot demo --out demo

# a process a core, one thread each: most tests are too small to share; the longest first, as tests/conftest.py orders them
test: env
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest \
	  -n auto --maxprocesses 4 --no-loadscope-reorder

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# the manual, from pages and docstrings; a warning is an error, and nothing is fetched
docs: env
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build/html
	@echo "wrote docs/_build/html/index.html"

# a source archive, a wheel with everything, and in dist/mit one without the networks learned from research-only photographs
dist: env
	$(BIN)/python -m hatchling build --directory dist
	LATENTROT_WITHOUT_RESEARCH_WEIGHTS=1 $(BIN)/python -m hatchling build --target wheel --directory dist/mit

clean:
	rm -rf .venv demo dist docs/_build
