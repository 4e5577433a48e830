# All commands: `make help` lists it. Each target works alone in a fresh clone.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
RUNTIME_VENV ?= .venv-runtime
PY ?= $(VENV)/bin/python
# More arguments for installing torch, e.g. --index-url https://download.pytorch.org/whl/cpu
TORCH_ARGS ?=

TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' requirements.txt)
TYPED := $(wildcard mmvideoiq/quant mmvideoiq/deploy)
STAMP := $(VENV)/.installed
# With PY=... given, that interpreter is used as it is and nothing is installed.
READY := $(if $(filter $(VENV)/bin/python,$(PY)),$(STAMP))
# Of fuzz, faults and soak: seconds after which nothing more is begun, and more options (ARGS="--only bulk").
SEED ?= 0
BUDGET ?= inf
INPUTS ?= 1100
KILLS ?= 20
ARGS ?=
THREADS := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1}

.PHONY: help install demo smoke runtime test check slow test-web fuzz faults soak docs clean distclean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo
	@echo "Variables: PYTHON=$(PYTHON) makes the environment in VENV=$(VENV); PY=/path/to/python uses another as it is;"
	@echo "SEED, BUDGET (seconds), INPUTS, KILLS and ARGS (more options) are of fuzz, faults and soak;"
	@echo "TORCH_ARGS=\"--index-url https://download.pytorch.org/whl/cpu\" fetches a torch without CUDA."

install: $(READY)  ## make the environment (the other targets do so by themselves)
	@$(PY) -c 'import sys, torch; print("ready: Python", sys.version.split()[0], "torch", torch.__version__)'

$(STAMP): requirements.txt setup.py pyproject.toml
	@echo ">> environment in $(VENV) with $$($(PYTHON) --version)"
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
		{ echo "no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo ">> $(TORCH), by itself, before anything can choose another"
	$(VENV)/bin/python -m pip install --disable-pip-version-check $(TORCH) $(TORCH_ARGS)
	@echo ">> the tested versions of everything else (requirements.txt)"
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-deps -r requirements.txt
	@echo ">> mmvideoiq itself, editable"
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## synthetic clips, all stages, evaluation, a bundle and its run: work_dirs/demo/summary.json and pictures
	@echo ">> the demo: all stages on synthetic clips, about eight minutes on two cores"
	$(PY) tools/train_stages.py configs/videoiq/demo_recipe.py --work-dir work_dirs/demo --resume

smoke: $(READY)  ## the demo in about a minute, to see that everything works; its figures mean nothing
	@echo ">> the demo's smoke run"
	rm -rf work_dirs/smoke
	$(PY) tools/train_stages.py configs/videoiq/demo_recipe.py --work-dir work_dirs/smoke --fast

runtime: work_dirs/smoke/bundle  ## the runtime in an environment of its own, without torch, on the smoke run's bundle
	@echo ">> environment in $(RUNTIME_VENV) with the runtime alone"
	@test -x $(RUNTIME_VENV)/bin/python || $(PYTHON) -m venv $(RUNTIME_VENV)
	$(RUNTIME_VENV)/bin/python -m pip install --disable-pip-version-check -q -e '.[runtime]'
	@! $(RUNTIME_VENV)/bin/python -c "import torch" 2>/dev/null || { echo "torch is there: this shows nothing" >&2; exit 1; }
	for engine in openvino onnxruntime; do \
		$(RUNTIME_VENV)/bin/python tools/infer.py work_dirs/smoke/bundle work_dirs/smoke/data/videos/test/0000[0-3].mkv \
			--engine $$engine || exit 1; \
	done

work_dirs/smoke/bundle:
	$(MAKE) smoke

test: $(READY)  ## the tests, without the slow ones
	@echo ">> tests, without the slow ones"
	$(THREADS) $(PY) -m pytest -m "not slow" -n 2

slow: $(READY)  ## the slow tests alone
	@echo ">> slow tests"
	$(THREADS) $(PY) -m pytest -m slow -n 2 --durations=10

test-web: $(READY)  ## the pages of `mmvideoiq serve` in a browser: needs chromium (apt-get install chromium)
	@echo ">> the pages in a browser"
	$(THREADS) $(PY) -m pytest -m slow tests/service/serve/test_page.py

fuzz: $(READY)  ## mutated videos, bundles, lists, configs, checkpoints, answers of a zoo: each works or is refused in a line
	$(THREADS) $(PY) -m tests.trust.fuzz --inputs $(INPUTS) --seed $(SEED) --seconds $(BUDGET) $(ARGS)

faults: $(READY)  ## kill -9, dead workers, full and read-only disks (as root): what is resumed is bit-identical
	$(THREADS) $(PY) -m tests.trust.faults --kills $(KILLS) --seed $(SEED) --seconds $(BUDGET) $(ARGS)

soak: $(READY)  ## 10,000 clips, an hour of stream, a server under 50 clients for ten minutes, on a machine with nothing else to do
	$(THREADS) $(PY) -m tests.trust.soak --judge-times $(ARGS)

check: $(READY)  ## lint, format, types, import rules
	@echo ">> lint"
	$(PY) -m ruff check .
	@echo ">> format"
	$(PY) -m ruff format --check .
	@echo ">> types of $(TYPED)"
	$(if $(TYPED),$(PY) -m mypy $(TYPED))
	@echo ">> import rules"
	$(THREADS) $(PY) -m pytest -q tests/test_import_rules.py

docs: $(READY)  ## the documentation into site/, with pictures drawn by our own code; a warning is an error
	@echo ">> documentation"
	NO_MKDOCS_2_WARNING=1 $(THREADS) $(PY) -m mkdocs build --quiet --strict
	@echo ">> site/index.html"

clean:  ## remove caches and the demo's results, keep the environment and your own results
	rm -rf work_dirs/demo work_dirs/smoke site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 -r rm -rf

distclean: clean  ## clean, and remove the environments
	rm -rf $(VENV) $(RUNTIME_VENV)
