# Every target makes its own environment in .venv, unless PYTHON names one that has everything.
VENV := .venv
PYTHON ?= $(VENV)/bin/python
# A process for each core, and whole files to each, as a file prepares things for its tests; in the order of folders,
# since files of few tests are no quick ones.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help

.PHONY: help install demo test test-all test-nightly test-gpu check format types bench bench-peers bench-gpu bench-gpu-net probe-nvdec

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(if $(filter $(VENV)/bin/python,$(PYTHON)),$(VENV)/installed)  ## make .venv with everything that training and tests need

$(VENV)/installed: setup.py
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -e .[test]
	touch $@

demo: install  ## generate a small data set, train TSM and TSN on it, evaluate both
	$(PYTHON) tools/demo.py

test: install  ## the tests that continuous integration runs
	$(PYTHON) -m pytest -m "not slow" $(PARALLEL)

test-all: install  ## all tests, the slow ones included
	$(PYTHON) -m pytest

test-nightly: install  ## hours: the slow tests, and the figures of docs/reliability.md
	$(PYTHON) -m pytest -m slow
	$(PYTHON) -m tests.programs.reliability --out benchmarks/results/reliability.json

test-gpu: install  ## the GPU tests, on a machine with an NVIDIA GPU; a skipped one is a failure
	REQUIRE_GPU=1 $(PYTHON) -m pytest -m gpu

check: install types  ## formatting, lint, types of the public interfaces, tests
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(MAKE) test

types: install  ## check the types of the public interfaces
	$(PYTHON) -m mypy

format: install  ## format the code and mend what lint can mend
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

bench: install  ## clips/s cut, fed, computed and trained, on the demo set
	$(PYTHON) tools/prepare.py demo
	$(PYTHON) benchmarks/throughput.py all --json --out runs >/dev/null

bench-peers: install  ## the same work with other decoders and loaders, those of `pip install -e .[peers]` that are installed
	$(PYTHON) benchmarks/peers.py all >/dev/null

bench-gpu: install  ## nine minutes on an NVIDIA GPU: frames, decoders, shift, step, end to end, tests, compiling
	$(PYTHON) benchmarks/on_gpu.py --out runs/on_gpu >/dev/null

bench-gpu-net: install  ## ten minutes on an NVIDIA GPU: the cost of the shift, by layer, step and kernel
	$(PYTHON) benchmarks/shift.py --device gpu --out runs/bench_gpu_net >/dev/null

probe-nvdec: install  ## five minutes on an NVIDIA GPU: what NVDEC decodes, how correctly, and how fast
	$(PYTHON) benchmarks/probe_nvdec.py >/dev/null
