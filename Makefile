# `make` lists the targets. Each one installs what it needs in a virtual environment.

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
EXPORT_ARGS ?=

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo demo-train test test-full lint smoke onnx test-onnx clean

help:  # list the targets
	@sed -n 's/^\([a-z-]*\):.*  # /\1\t/p' Makefile | expand -t 14

demo: $(VENV)/base  # restore two photographs with the released weights, and show motion in a third
	$(BIN)/python examples/demo.py --dir=demo

demo-train: $(VENV)/installed  # train and evaluate a small network, in about ten minutes on two cores
	$(BIN)/python examples/demo_train.py --dir=demo_train

test: lint  # lint and run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 $(PYTEST_ARGS)

test-full: $(VENV)/installed  # run the tests that are long or at full size
	$(BIN)/python -m pytest -n 2 --dist loadfile -m full --durations=10 $(PYTEST_ARGS)

lint: $(VENV)/installed  # run Ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

smoke:  # check an installation without extras: restore, train two steps, export, import
	$(PYTHON) -m venv $(SMOKE_VENV)
	$(SMOKE_VENV)/bin/python -m pip install --quiet --editable .
	$(SMOKE_VENV)/bin/python tests/smoke.py

# Without extras, which are three times as large.
$(VENV)/base: setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed: $(VENV)/base
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

onnx: $(ONNX_VENV)/installed  # export WEIGHTS=FILE to ONNX=FILE, .onnx or .dtmodel (docs/export.md)
	mkdir -p "$$(dirname "$(ONNX)")"
	$(ONNX_VENV)/bin/python -m gfn_jax.cli.export "$(WEIGHTS)" "$(ONNX)" --overwrite $(EXPORT_ARGS)

test-onnx: $(ONNX_VENV)/installed  # test the export to ONNX, and checkpoints with the oldest Orbax
	$(ONNX_VENV)/bin/python -m pytest -m '' tests/interop/test_export.py tests/interop/test_onnx_file.py \
	  tests/interop/test_darktable.py tests/training/test_checkpoints.py $(PYTEST_ARGS)

# A separate environment, because jax2onnx requires an older Orbax and an older JAX than the newest.
$(ONNX_VENV)/installed: setup.cfg
	$(PYTHON) -m venv $(ONNX_VENV)
	$(ONNX_VENV)/bin/python -m pip install --quiet --editable '.[onnx,test]'
	touch $@

clean:  # remove environments, caches and what the demos wrote
	rm -rf $(VENV) .venv-smoke-* $(ONNX_VENV) .cache demo demo_train
