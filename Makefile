# Two commands set up all they need in a virtual environment of their own:
#   make demo    restores two photographs with the released weights
#   make test    lints and runs the tests
# and `make demo-train` trains and tries a small network, in about ten minutes on two cores.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
EXTRAS ?= train,video,demo,test
PYTEST_ARGS ?=

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo demo-train test lint clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py --dir=demo

demo-train: $(VENV)/installed
	$(BIN)/python examples/demo_train.py --dir=demo_train

test: lint
	$(BIN)/python -m pytest -n 2 --durations=10 $(PYTEST_ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) .cache demo demo_train
