# `make` lists the targets. Each one installs what it needs in a virtual environment.

# Python 3.12 supports the newest JAX; otherwise take the first that is new enough.
PYTHON ?= $(shell for python in python3.12 python3 python3.11; do \
  if $$python -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; \
  then echo $$python; exit; fi; done; echo python3)
VENV ?= .venv
BIN = $(VENV)/bin
EXTRAS ?= train,video,demo,docs,notebook,test
PYTEST_ARGS ?=
BUILD_VENV ?= .venv-build
SMOKE_VENV ?= .venv-smoke-$(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])")
ONNX_VENV ?= .venv-onnx
WEIGHTS ?= gfn
ONNX ?= build/gfn.onnx
PAGE ?= build/page
EXPORT_ARGS ?=

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo demo-train test test-full lint wheel smoke docs notebook page onnx test-onnx clean

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

wheel: $(BUILD_VENV)/installed  # build the wheel and the sdist in dist/, and check their metadata
	rm -rf dist gfn_jax.egg-info
	$(BUILD_VENV)/bin/python -m build --quiet
	$(BUILD_VENV)/bin/python -m twine check --strict dist/*

smoke: wheel  # install the wheel without extras: restore, train two steps, export, import
	$(PYTHON) -m venv --clear $(SMOKE_VENV)
	$(SMOKE_VENV)/bin/python -m pip install --quiet dist/*.whl
	$(SMOKE_VENV)/bin/python tests/smoke.py

docs: $(VENV)/docs  # build the site, build/docs/index.html
	$(BIN)/python -m sphinx --fresh-env --nitpicky --fail-on-warning --keep-going --quiet docs build/docs

notebook: $(VENV)/docs  # run examples/quickstart.ipynb, and keep its outputs in it
	$(BIN)/python examples/run_notebook.py

$(BUILD_VENV)/installed:
	$(PYTHON) -m venv $(BUILD_VENV)
	$(BUILD_VENV)/bin/python -m pip install --quiet 'build >= 1.2, < 2' 'twine >= 6.1'
	touch $@

# Without extras, which are three times as large.
$(VENV)/base: setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/docs: $(VENV)/base
	$(BIN)/python -m pip install --quiet --editable '.[docs,notebook]'
	touch $@

$(VENV)/installed: $(VENV)/base
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

onnx: $(ONNX_VENV)/installed  # export WEIGHTS=FILE to ONNX=FILE, .onnx or .dtmodel (docs/export.md)
	mkdir -p "$$(dirname "$(ONNX)")"
	$(ONNX_VENV)/bin/python -m gfn_jax.cli.export "$(WEIGHTS)" "$(ONNX)" --overwrite $(EXPORT_ARGS)

test-onnx: $(ONNX_VENV)/installed  # test the export to ONNX, and checkpoints with the oldest Orbax
	$(ONNX_VENV)/bin/python -m pytest -m '' tests/interop/test_export.py tests/interop/test_onnx_file.py \
	  tests/interop/test_darktable.py tests/page/test_build.py tests/training/test_checkpoints.py $(PYTEST_ARGS)

page: $(ONNX_VENV)/installed  # build the browser page in PAGE=build/page (docs/page.md; needs npm)
	$(ONNX_VENV)/bin/python page/build.py "$(PAGE)" --cache .cache/npm

# A separate environment, because jax2onnx requires an older Orbax and an older JAX than the newest.
$(ONNX_VENV)/installed: setup.cfg
	$(PYTHON) -m venv $(ONNX_VENV)
	$(ONNX_VENV)/bin/python -m pip install --quiet --editable '.[onnx,test]'
	touch $@

clean:  # remove environments, caches and what the demos wrote
	rm -rf $(VENV) $(BUILD_VENV) .venv-smoke-* $(ONNX_VENV) .cache build dist demo demo_train
