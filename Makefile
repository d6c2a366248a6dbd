# Each target installs its requirements in a virtual environment:
#   make demo         restore two photographs with the released weights, and show motion in a third
#   make demo-train   train and evaluate a small network, in about ten minutes on two cores
#   make test         lint and run the tests
#   make test-full    run the tests that are long or at full size
#   make smoke        check an installation without extras: restore, train two steps, export, import
#   make onnx WEIGHTS=FILE ONNX=FILE    export weights (docs/export.md)

# Python 3.12 supports the newest JAX; otherwise take the first that is new enough.
PYTHON ?= $(shell for python in python3.12 python3 python3.11; do \
  if $$python -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; \
  then echo $$python; exit; fi; done; echo python3)
VENV ?= .venv
BIN = $(VENV)/bin
EXTRAS ?= train,video,demo,test
PYTEST_ARGS ?=
SMOKE_VENV ?= .venv-smoke-$(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])")
ONNX_VENV ?= .venv-onnx
WEIGHTS ?= gfn
ONNX ?= build/gfn.onnx

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo demo-train test test-full lint smoke onnx test-onnx clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py --dir=demo

demo-train: $(VENV)/installed
	$(BIN)/python examples/demo_train.py --dir=demo_train

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 $(PYTEST_ARGS)

test-full: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m full --durations=10 $(PYTEST_ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

smoke:
	$(PYTHON) -m venv $(SMOKE_VENV)
	$(SMOKE_VENV)/bin/python -m pip install --quiet --editable .
	$(SMOKE_VENV)/bin/python tests/smoke.py

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

onnx: $(ONNX_VENV)/installed
	mkdir -p "$$(dirname "$(ONNX)")"
	$(ONNX_VENV)/bin/python -m gfn_jax.cli.export "$(WEIGHTS)" "$(ONNX)" --format=onnx --overwrite

test-onnx: $(ONNX_VENV)/installed
	$(ONNX_VENV)/bin/python -m pytest -m '' tests/interop/test_export.py $(PYTEST_ARGS)

# A separate environment, because jax2onnx requires an older Orbax than training.
$(ONNX_VENV)/installed: requirements-onnx.txt setup.cfg
	$(PYTHON) -m venv $(ONNX_VENV)
	$(ONNX_VENV)/bin/python -m pip install --quiet --requirement requirements-onnx.txt
	$(ONNX_VENV)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .venv-smoke-* $(ONNX_VENV) .cache demo demo_train
