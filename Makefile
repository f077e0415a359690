# Every target makes its own environment in .venv, unless PYTHON names one that has everything.
VENV := .venv
PYTHON ?= $(VENV)/bin/python

.PHONY: demo test test-all test-gpu check format bench probe-nvdec bench-gpu bench-gpu-net bench-peers install

install: $(if $(filter $(VENV)/bin/python,$(PYTHON)),$(VENV)/installed)

$(VENV)/installed: setup.py
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -e .[test]
	touch $@

demo: install  ## make a small data set, train TSM and TSN on it, evaluate both
	$(PYTHON) tools/demo.py

test: install  ## what CI runs
	$(PYTHON) -m pytest -m "not slow"

test-all: install  ## the slow suites too
	$(PYTHON) -m pytest

test-gpu: install  ## on a machine with an NVIDIA GPU: a skipped GPU test is a failure
	REQUIRE_GPU=1 $(PYTHON) -m pytest -m gpu

check: install  ## formatting, lint, tests
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pytest -m "not slow"

format: install
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

probe-nvdec: install  ## on a machine with an NVIDIA GPU, in five minutes: what its video decoder takes, gives and feeds
	$(PYTHON) benchmarks/probe_nvdec.py >/dev/null

bench-gpu: install  ## on a machine with an NVIDIA GPU, in ten minutes: tests, decoder, stages, peers, a training run
	$(PYTHON) benchmarks/on_gpu.py --out runs/on_gpu >/dev/null

bench-gpu-net: install  ## on a machine with an NVIDIA GPU, in ten minutes: what the shift costs, by layer, step and kernel
	$(PYTHON) benchmarks/shift.py --device gpu --out runs/bench_gpu_net >/dev/null

bench-peers: install  ## the same work done by what one would take instead; those of `pip install -e .[peers]` that are there
	$(PYTHON) benchmarks/peers.py all >/dev/null

bench: install  ## clips/s cut, fed, computed and trained, on the demo set
	$(PYTHON) tools/prepare.py demo
	$(PYTHON) benchmarks/throughput.py all >/dev/null
