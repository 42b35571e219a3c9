# One command each: the venv is made and filled on the first, and again when the dependencies change.
#   make demo    into outputs/: a new piece (.mid, .png, _process.gif), and a simulated camera stack super-resolved
#   make test    run the tests
#   make check   formatting, lint, types and tests, as CI runs them
#   make clean   remove the venv, the caches and the demo's files
# Without a GPU, PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" makes the install much smaller.

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two processes with a thread each: the tests compile and train little, and threads of several processes get in each other's way.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test check clean
.DELETE_ON_ERROR:

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "varcli needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(INSTALLED): pyproject.toml constraints.txt $(VENV)/.made
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/var sample --mode unconditional --gif --output-dir outputs --overwrite
	$(BIN)/var simulate emitters filaments --set frames=300 --output outputs/filaments.tif --overwrite
	$(BIN)/var super-resolve outputs/filaments.tif --camera outputs/filaments_camera.toml --to 80 --mode both --gif \
		--output-dir outputs --overwrite

test: $(INSTALLED)
	$(PYTEST)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(PYTEST)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
	rm -f outputs/unconditional_000.mid outputs/unconditional_000.png outputs/unconditional_000_process.gif
	rm -f outputs/filaments.tif outputs/filaments_*
	find varcli tests -name __pycache__ -type d -prune -exec rm -rf {} +
