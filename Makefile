# Everything this repository does, by name.  Each target makes .venv by itself when it is missing or when
# pyproject.toml changed.  Needed on the machine: Python 3.11 or newer, git, make and a C++ compiler.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ARGS ?=
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test soak bench lint clean compiler

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(STAMP) ## simulate three visits, run the service, send the frames, report (demo/report.html)
	$(VENV)/bin/gpudiff demo --output demo $(ARGS)

test: compiler $(STAMP) ## every test, two at a time; ARGS="-k name" picks some, WORKERS=0 runs them in one process
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

soak: compiler $(STAMP) ## the long tests (faults, fuzzing, nights) and the load; ARGS as for test
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile -m soak $(ARGS)
	$(PYTHON) bench/load.py --period 39
	$(PYTHON) bench/load.py --period 39 --detections 40000
	$(PYTHON) bench/night.py

bench: $(STAMP) ## every benchmark, about an hour; results go to bench/results/
	@for script in bench/[!_]*.py; do echo "== $$script"; $(PYTHON) $$script $(ARGS) || exit 1; done

lint: $(STAMP) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The tests run the CUDA kernels on the CPU, which takes a C++ compiler.
compiler:
	@command -v $(firstword $(CXX)) >/dev/null 2>&1 || { \
	  echo "make: no C++ compiler ($(CXX)): install one (Debian, Ubuntu: apt-get install g++) or set CXX" >&2; \
	  exit 1; }

$(STAMP): pyproject.toml
	@sh .ci/venv $(VENV)
	@touch $@
