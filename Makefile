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
PAIRS ?=
RELEASE = build/release
STAGING = build/.release
RELEASE_TESTS = tests/data_prep/test_attribution.py tests/page tests/restoration/test_dtypes.py \
  tests/restoration/test_released_weights.py tests/test_distribution.py tests/test_model_zoo.py \
  tests/test_site.py::test_the_notebook_is_stored_with_its_outputs tests/weights \
  tests/cli/test_commands.py::test_the_demonstration
NETWORKS = $(notdir $(basename $(wildcard gfn_jax/weights/*.safetensors)))

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo demo-train test pytest test-full lint wheel smoke docs notebook pictures onnx test-onnx page release clean

help:  # list the targets
	@sed -n 's/^\([a-z-]*\):.*  # /\1\t/p' Makefile | expand -t 14

demo: $(VENV)/base  # restore two photographs with the released weights, and show motion in a third
	$(BIN)/python examples/demo.py --dir=demo

demo-train: $(VENV)/installed  # train and evaluate a small network, in about ten minutes on two cores
	$(BIN)/python examples/demo_train.py --dir=demo_train

test: lint pytest  # lint and run the tests

pytest: $(VENV)/installed  # run the tests alone
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

pictures: demo  # make the pictures of README and docs with the released weights
	$(BIN)/gfn-visualize demo/astronaut_input.png docs/gate.png
	$(BIN)/gfn-figure --input=demo/astronaut_input.png --target=demo/astronaut_original.png \
	  --weights=GFN=gfn --crop=82,12,40,30 --output=docs/crop_figure.png
	cp demo/before_after.png demo/frames.gif docs

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

release: $(VENV)/installed  # rebuild what derives from the weights, in build/release (CONTRIBUTING.md)
	rm -rf $(RELEASE) $(STAGING) build/docs
	mkdir -p $(STAGING)/hub
	$(BIN)/python -m data_prep.attribution
	git diff --exit-code --stat HEAD -- gfn_jax/weights/ATTRIBUTION.md
ifneq ($(PAIRS),)
	$(BIN)/python -m benchmarks.restoring_dtype --pairs="$(PAIRS)" --write \
	  --output=benchmarks/results/restoring_dtype_cpu.json
endif
	$(MAKE) pictures
	$(MAKE) notebook
	$(MAKE) page
	GFN_JAX_REQUIRE_BROWSER=1 $(BIN)/python -m pytest -m '' $(RELEASE_TESTS) $(PYTEST_ARGS)
	$(MAKE) smoke
	$(MAKE) docs
	for network in $(NETWORKS); do \
	  $(BIN)/gfn-export $$network $(STAGING)/hub/$$network --format=hub && \
	  $(MAKE) onnx WEIGHTS=$$network ONNX=$(STAGING)/$$network.onnx || exit 1; \
	done
	for network in $(filter gfn%,$(NETWORKS)); do \
	  $(MAKE) onnx WEIGHTS=$$network ONNX=$(STAGING)/$$network-nchw.onnx EXPORT_ARGS=--layout=nchw || exit 1; \
	done
	$(MAKE) onnx ONNX=$(STAGING)/upscale-gfn.dtmodel
	$(MAKE) onnx ONNX=$(STAGING)/denoise-gfn.dtmodel EXPORT_ARGS=--output=lr
	cp dist/* $(STAGING)
	cp -r build/docs $(STAGING)/site
	cd $(STAGING) && find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS
	mv $(STAGING) $(RELEASE)
ifeq ($(PAIRS),)
	@echo 'left out: bfloat16 against float32 (make release PAIRS=GOPRO_Large/test)'
endif
	@echo 'wrote $(RELEASE); changed in the repository:'
	@git status --short

clean:  # remove environments, caches and what the demos wrote
	rm -rf $(VENV) $(BUILD_VENV) .venv-smoke-* $(ONNX_VENV) .cache build dist demo demo_train
